"""Errors of replaying files; each message names the file, or the topic, and the remedy."""

from stream.errors import StreamError


class ReplayError(StreamError):
    """A file that cannot be replayed at all, or an option that makes no sense."""


class ProduceError(StreamError):
    """Events that could not be brought to the topic."""
