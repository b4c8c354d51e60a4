"""Clips from disk, from video files and from rendered photographs; training samples; low resolution."""
