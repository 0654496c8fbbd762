"""JSON Lines of the product's own events, as `shop.events` holds them.

The bytes are passed on as they are: ids, unknown fields and formatting survive.
"""

from collections.abc import Iterator
from pathlib import Path

from stream.replay.adapter import AS_FOUND, ParsedLine, Rejected, Wanted
from stream.replay.lines import MAX_LINE_BYTES, read_lines


class JsonLines:
    """The adapter. The only format whose event ids come from the file."""

    name = "jsonl"

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        return line.startswith(b"{") and b'"event_id"' in line

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield every line of the file, in file order."""
        del wanted
        for number, line in read_lines(path):
            if line is None:
                yield number, Rejected(number, f"longer than {MAX_LINE_BYTES} bytes")
            elif not line:
                yield number, Rejected(number, "blank line")
            else:
                yield number, line
