"""What ``weights list``, ``weights check`` and ``weights export`` do."""
