"""The models and their baselines on real data, by fixed protocols: `intentstream evaluate`."""
