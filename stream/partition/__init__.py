"""One partition from its opening to its closing, and its commits."""
