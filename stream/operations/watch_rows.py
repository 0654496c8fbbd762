"""Rows of a view as lines of text that fit a terminal, the newest row always among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["fitting_lines"]

_GAP: Final = "  "
_INDENT: Final = "    "


def fitting_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, height: int
) -> list[str]:
    """A head and the newest rows, in lines of at most `width` characters, at most `height` of them.

    As many columns stand side by side as have room for their longest cell. Each of the others
    follows below its row with its name, on one line if it fits, so that an id can be copied whole.
    At least the newest row is shown.

    Args:
        columns: their names.
        rows: a text per column, the newest row last.
        width: of the terminal.
        height: lines there is room for.
    """
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    beside = _beside(widths, width)
    blocks: list[list[str]] = []
    left = height - 1
    for row in reversed(rows):
        block = _block(columns, row, widths[:beside], width)
        left -= len(block)
        if left < 0 and blocks:
            break
        blocks.append(block)
    head = _line(columns[:beside], widths[:beside])[:width]
    return [head, *(line for block in reversed(blocks) for line in block)]


def _beside(widths: Sequence[int], width: int) -> int:
    """How many columns have room side by side, at least one."""
    taken = 0
    for count, wide in enumerate(widths):
        taken += wide + (len(_GAP) if count else 0)
        if taken > width:
            return max(count, 1)
    return len(widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(wide) for cell, wide in zip(cells, widths, strict=True))
    return _GAP.join(padded).rstrip()


def _block(
    columns: Sequence[str], row: Sequence[str], widths: Sequence[int], width: int
) -> list[str]:
    """The lines of one row."""
    count = len(widths)
    lines = _folded(_line(row[:count], widths), width)
    below = ""
    for name, cell in zip(columns[count:], row[count:], strict=True):
        if not cell:
            continue
        labelled = f"{name} {cell}"
        if below and len(below) + len(_GAP) + len(labelled) <= width:
            below += _GAP + labelled
            continue
        lines += _folded(below, width)
        below = _INDENT + labelled
    return [*lines, *_folded(below, width)]


def _folded(line: str, width: int) -> list[str]:
    return [line[start : start + width] for start in range(0, len(line), width)]
