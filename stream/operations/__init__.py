"""What an operator does besides running workers: look, explain, repair, forget."""
