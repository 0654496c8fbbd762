"""User records on disk, and how they come back from the changelog."""
