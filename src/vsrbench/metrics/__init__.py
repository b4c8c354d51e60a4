"""Metrics as pure functions: tensors in, numbers out."""
