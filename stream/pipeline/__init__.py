"""Records -> state, scores, alerts, messages. No I/O: handed in and taken out."""
