"""What surrounds a fit: schedule, checkpoints, processes, sampling, tracking, tuning."""
