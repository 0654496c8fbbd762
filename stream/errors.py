"""Errors of the engine: each message says where it happened and what to do about it."""

from schemas.errors import IntentStreamError


class StreamError(IntentStreamError):
    """Base of the engine's errors."""


class SettingsError(StreamError):
    """A setting is unknown, out of range, or contradicts another one."""


class BrokerError(StreamError):
    """The embedded broker cannot be started, found or stopped, or no broker answers."""


class TopicLayoutError(StreamError):
    """Topics are missing or laid out so that the worker's guarantees would not hold.

    Attributes:
        problems: one line per problem, each naming the topic and the remedy.
    """

    def __init__(self, problems: list[str]) -> None:
        """Keep the single problems beside the joined message."""
        super().__init__("wrong topic layout: " + "; ".join(problems))
        self.problems = problems
