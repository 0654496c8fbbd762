"""Whether what comes in, and what a model says, is still what it was."""
