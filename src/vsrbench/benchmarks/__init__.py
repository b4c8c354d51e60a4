"""What ``bench`` counts and measures; one module per task, each with ``run(cfg)``."""
