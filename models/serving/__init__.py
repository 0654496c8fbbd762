"""A published model: its folder, its signature, and its scores."""
