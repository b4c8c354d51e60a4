"""vsrbench: diffusion and GAN video super-resolution on equal terms."""

from vsrbench import compat

__version__ = "0.1.0"

compat.guard_torchvision()
compat.quiet_libraries()
