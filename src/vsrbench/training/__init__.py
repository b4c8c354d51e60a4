"""The training shell: one loop for every method."""
