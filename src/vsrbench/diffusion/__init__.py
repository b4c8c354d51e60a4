"""Parts that the latent diffusion methods share: noise, schedule, samplers, prior, guided forward."""
