"""What became of predictions and alerts."""
