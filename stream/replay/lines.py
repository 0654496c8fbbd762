"""Lines of text files, plain or compressed, numbered, and bounded in length.

What a file is, its first bytes tell, not its name: compressions, UTF-8 and UTF-16 with or without a
byte order mark, and line ends of any system.
"""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from stream.replay.errors import ReplayError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_LINE_BYTES", "first_line", "read_lines"]

MAX_LINE_BYTES: Final = 8 << 20
"""A longer line is rejected unread, so that a file without line ends needs no memory."""
_COMPRESSIONS: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}
_NO_TEXT: Final = {
    b"PAR1": "a Parquet file: `train --format parquet` reads events from it, and online-retail"
    " takes it where its name ends in .parquet",
    b"PK\x03\x04": "an Excel workbook or a ZIP archive: save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
}
_BUFFER: Final = 1 << 20


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line's number, from 1, and its bytes without the line end; None if too long.

    Gzip, zstd, bz2 and lz4 are decompressed, UTF-16 becomes UTF-8, a byte order mark is left out.

    Raises:
        ReplayError: the file is missing, is no text file, or its compression is damaged.
    """
    try:
        with _open(path) as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
                    yield number, line.rstrip(b"\r\n")
                    continue
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE_BYTES)
                yield number, None
    except UnicodeDecodeError as error:
        raise ReplayError(
            f"cannot read {path}: it begins as UTF-16 and does not go on so ({error.reason}); save"
            " it as UTF-8"
        ) from error
    except (OSError, ValueError) as error:  # pyarrow's errors of damaged files are ValueErrors
        raise ReplayError(f"cannot read {path}: {error}") from error


def first_line(path: Path) -> bytes:
    """The first line of a text file, its first 64 KiB at most; empty for an empty file.

    Raises:
        ReplayError: as `read_lines`.
    """
    for _, line in read_lines(path):
        return (line or b"")[: 64 << 10]
    return b""


def _open(path: Path) -> IO[bytes]:
    stream: IO[bytes] = path.open("rb", buffering=_BUFFER)
    magic = _peek(stream)[:4]
    for begin, kind in _NO_TEXT.items():
        if magic.startswith(begin):
            stream.close()
            raise ReplayError(f"{path} is {kind}")
    for begin, compression in _COMPRESSIONS.items():
        if magic.startswith(begin):
            stream.close()
            import pyarrow as pa  # noqa: PLC0415  # an extra, which plain files do not need

            arrow = pa.input_stream(str(path), compression=compression)
            stream = io.BufferedReader(arrow, _BUFFER)
    begin = _peek(stream)
    encoding = _wide_encoding(begin[:4])
    if encoding is not None:
        stream = io.BufferedReader(_Recoded(stream, encoding), _BUFFER)
        begin = _peek(stream)
    if b"\r" in begin and b"\n" not in begin:
        stream = io.BufferedReader(_Recoded(stream, None), _BUFFER)
    if _peek(stream).startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    return stream


def _peek(stream: IO[bytes]) -> bytes:
    return stream.peek(_BUFFER)[:_BUFFER] if isinstance(stream, io.BufferedReader) else b""


def _wide_encoding(begin: bytes) -> str | None:
    """The UTF-16 that text begins in; None if it is another encoding."""
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [byte == 0 for byte in begin]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else None


class _Recoded(io.RawIOBase):
    """UTF-16 as UTF-8; or, without an encoding, bytes whose lines end in CR as such that end in LF.

    Raises UnicodeDecodeError where the text is not of the encoding.
    """

    def __init__(self, stream: IO[bytes], encoding: str | None) -> None:
        self._stream = stream
        self._decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        while not self._left:
            data = self._stream.read(_BUFFER)
            if self._decoder is None:
                self._left = data.replace(b"\r", b"\n")
            else:
                # Half a character at the end of a cut file is no reason to refuse the rest.
                self._left = self._decoder.decode(data).encode()
            if not data:
                break
        size = min(len(view), len(self._left))
        view[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        self._stream.close()
        super().close()
