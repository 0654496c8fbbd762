"""Simulated events -> records. JSON is put together as text, for speed; a test decodes it."""

import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np

from schemas.events import TYPE_NAMES, EventType
from stream.replay.order import Row
from stream.replay.report import Report
from stream.simulate.faults import POISON_KINDS, Delivery
from stream.simulate.plan import SimulateError
from stream.simulate.truth import user_id

__all__ = ["rows", "write_lines"]

_CHUNK: Final = 1 << 14
_SEARCH: Final = EventType.SEARCH.value
_BREAKS: Final = {
    "not_utf8": (b'"session_id":"', b'"session_id":"\xff\xfe'),
    "missing_field": (b'"user_id"', b'"customer"'),
    "wrong_type": (b'"event_time":', b'"event_time":"soon","was":'),
    "unknown_type": (b'{"type":"', b'{"type":"un'),
    "null_value": (b'"event_time":', b'"event_time":null,"was":'),
}


def rows(delivery: Delivery) -> Iterator[Row]:
    """Yield the records in the order of sending; every event says that it is synthetic.

    An event's id is `sim-<seed>-<number in order of time>`, so repeated records have equal bytes.
    """
    for start in range(0, len(delivery.time), _CHUNK):
        yield from _chunk(delivery, start)


def write_lines(delivery: Delivery, path: Path, report: Report) -> None:
    """Write the records' values as JSON Lines, in the order of sending.

    Raises:
        SimulateError: the file cannot be written.
    """
    started = time.monotonic()
    try:
        with path.open("wb") as file:
            for start in range(0, len(delivery.time), _CHUNK):
                chunk = _chunk(delivery, start)
                file.write(b"\n".join([row.value for row in chunk]) + b"\n")
                report.sent += len(chunk)
    except OSError as error:
        raise SimulateError(f"cannot write the events to {path}: {error}") from error
    report.seconds = time.monotonic() - started


def _chunk(delivery: Delivery, start: int) -> list[Row]:
    shop = delivery.shop
    plan = shop.truth.plan
    events = delivery.event[start : start + _CHUNK]
    items = shop.item[events]
    names = [_user(user) for user in shop.user[events].tolist()]
    values = map(
        _json,
        repeat(plan.seed),
        events.tolist(),
        names,
        shop.time[events].tolist(),
        shop.kind[events].tolist(),
        shop.session[events].tolist(),
        items.tolist(),
        (items % plan.categories).tolist(),
        shop.prices[items].tolist(),
        shop.quantity[events].tolist(),
    )
    numbers = range(start, start + len(events))
    sent = delivery.time[start : start + _CHUNK].tolist()
    keys: list[bytes | None] = [name.encode() for name in names]
    made = list(map(Row, sent, numbers, keys, values))
    poison = delivery.poison[start : start + _CHUNK]
    for place in np.flatnonzero(poison >= 0).tolist():
        made[place] = _poisoned(POISON_KINDS[poison[place]], made[place])
    return made


def _json(
    seed: int,
    event: int,
    user: str,
    at: int,
    kind: int,
    session: int,
    item: int,
    category: int,
    price: float,
    quantity: int,
) -> bytes:
    if kind == _SEARCH:
        about = f'"query":"category {category}"'
    else:
        about = (
            f'"item_id":"i{item}","category_id":"c{category}","price":{price:.2f},'
            f'"quantity":{quantity}'
        )
    return (
        f'{{"type":"{TYPE_NAMES[kind]}","event_id":"sim-{seed}-{event}","user_id":"{user}",'
        f'"event_time":{at},"session_id":"s{session}",{about},"properties":{{"synthetic":true}}}}'
    ).encode()


@lru_cache(maxsize=1 << 17)
def _user(index: int) -> str:
    return user_id(index)


def _poisoned(kind: str, row: Row) -> Row:
    """Break a good record in the way that `kind` names; its id is not the good event's."""
    value = row.value.replace(b'"event_id":"sim-', b'"event_id":"poison-%d-' % row.sequence)
    if kind == "key_missing":
        return row._replace(key=None, value=value)
    if kind == "key_mismatch":
        return row._replace(key=b"not-" + (row.key or b""), value=value)
    if kind == "truncated":
        return row._replace(value=value[: len(value) // 2])
    if kind == "not_a_number":
        return row._replace(value=value[:-1] + b',"price":NaN}')
    return row._replace(value=value.replace(*_BREAKS[kind]))
