"""Many jobs: sweeps, their manifests, SLURM. Needs no torch, as a login node may have none."""
