"""VideoGigaGAN: an image GAN upsampler inflated to video (Xu et al. 2024)."""
