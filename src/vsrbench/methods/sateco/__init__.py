"""SATeCo: spatial adaptation and temporal coherence around Stable Diffusion (Chen et al. 2024)."""
