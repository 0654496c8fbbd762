"""RecSys Challenge 2025: its files, its protocol and its metrics, for the product's models."""
