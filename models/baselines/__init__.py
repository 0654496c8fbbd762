"""Baselines: what any model must beat to be worth its price."""
