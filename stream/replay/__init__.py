"""Public datasets' own files -> events on a topic, in event order, at a chosen speed."""
