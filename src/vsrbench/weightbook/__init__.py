"""Weights as files: what is known and here, whether a folder fits, and export to layouts that others read."""
