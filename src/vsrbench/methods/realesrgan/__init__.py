"""Real-ESRGAN, the GAN baseline that treats each frame by itself."""

from vsrbench.methods.realesrgan.model import RealESRGAN

__all__ = ["RealESRGAN"]
