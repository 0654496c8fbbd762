"""Clients of the brokers: what is fetched, sent, created and permitted."""
