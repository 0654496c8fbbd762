"""Events and histories -> the arrays that a model sees."""
