"""DGAF-VSR's observations, measured again: what latents keep and lose (Sec. 3.2, Supp. Sec. 3, 4, 5 and 10)."""
