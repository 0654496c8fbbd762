"""Compiled inner loops of the engine; see `models/kernels`."""
