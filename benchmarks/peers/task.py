"""What all Python peers share: their arguments, and what they keep and say of an event."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT = 50
CODES = {
    name: code
    for code, name in enumerate(
        ("view", "search", "favourite", "cart_add", "cart_remove", "purchase", "refund"), 1
    )
}

Entry = list[Any]
"""[event time ms, type code, item id, category id, amount]"""


@dataclass(frozen=True)
class Task:
    """Where a peer reads and writes."""

    bootstrap: str
    source: str
    output: str
    group: str
    folder: Path
    """For local state."""
    partitions: int
    model: Path | None
    """TorchScript file; none: no model."""


def read_task() -> Task:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "source", "output", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--model", type=Path)
    return Task(**vars(parser.parse_args()))


def entry(event: dict[str, Any]) -> Entry:
    """What is kept of an event."""
    return [
        event["event_time"],
        CODES[event["type"]],
        event.get("item_id"),
        event.get("category_id"),
        event.get("price", 0.0) * event.get("quantity", 1),
    ]


def appended(kept: list[Entry] | None, event: dict[str, Any]) -> list[Entry]:
    """The last events with one more."""
    return [*(kept or ())[-KEPT + 1 :], entry(event)]


def message(event: dict[str, Any], kept: list[Entry], score: float | None = None) -> dict[str, Any]:
    """What is written for an event."""
    said = {
        "event_id": event["event_id"],
        "user_id": event["user_id"],
        "event_time": event["event_time"],
        "events": len(kept),
    }
    return said if score is None else {**said, "score": score}
