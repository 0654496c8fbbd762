"""What comes next, ranked: its windows, its fit, its figures."""
