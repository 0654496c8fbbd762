"""What can go wrong in a demo."""

from stream.errors import StreamError


class DemoError(StreamError):
    """The demo cannot be run as asked, or a part of it failed; the message says which and why.

    Attributes:
        said: last line of the log of the process that failed.
        tail: the lines before it.
    """

    def __init__(self, message: str, said: str = "", tail: list[str] | None = None) -> None:
        """Keep the end of the log beside the message."""
        super().__init__(message)
        self.said = said
        self.tail = tail or []
