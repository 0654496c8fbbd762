"""Measurements: `make bench`, options with `python -m benchmarks --help`."""
