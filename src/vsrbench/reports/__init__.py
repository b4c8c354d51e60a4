"""Pages about finished runs, made from result.json and PNG frames alone: no torch, no method."""
