"""VideoGigaGAN: an image GAN upsampler inflated to video (Xu et al. 2025)."""

from vsrbench.methods.videogigagan.model import VideoGigaGAN

__all__ = ["VideoGigaGAN"]
