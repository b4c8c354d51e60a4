"""Everything that opens weights files: reading, writing, key reports, folders, the hub, and what is known by name."""
