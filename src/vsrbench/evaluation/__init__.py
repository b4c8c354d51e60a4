"""Protocols, strict reading of frames, scoring and results. Knows no method: all frames are evaluated alike."""
