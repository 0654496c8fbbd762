"""Signs of life: counted, shown, and acted on when they stop."""
