"""Optical flow: warping, resizing, estimators, and a bank that computes each pair once."""
