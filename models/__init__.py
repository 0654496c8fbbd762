"""The learning: sequences in, probabilities out. Knows no Kafka."""
