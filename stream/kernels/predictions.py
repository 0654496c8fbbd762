"""Predictions as JSON, many at once, by filling the gaps of a text that msgspec wrote.

A scorer's predictions differ in few places. One prediction is encoded as a pattern, with marks in
those places, and cut there; so the fields and their order are those of the schema. Tests compare
the bytes with msgspec's.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from models.history import AMOUNT_UNIT, I64
from models.kernels.jit import kernel
from models.kernels.xxh3 import U8
from schemas.codec import encode
from schemas.outputs import Prediction, Source, SurvivalPoint, TargetScore, prediction_id
from stream.kernels.buffers import put_bytes

DIGITS: Final = 7
"""Decimals of a probability."""
_UNITS: Final = 10**DIGITS
_AMOUNTS: Final = AMOUNT_UNIT
_OFFSET, _USER, _PROBABILITY, _STATE_TIME, _EVENT_TIME, _COLD, _AUTOMATED, _WAIT, _SPEND = range(9)
_HORIZON: Final = 9
_MOMENT: Final = 3
"""Stands for the time in the id of a prediction at a timer."""
_MARKS: Final = (
    (_STATE_TIME, rb'(?<=@)3(?=")'),
    (_USER, rb'(?<="user_id":)"u"'),
    (_PROBABILITY, rb'(?<="probability":)0\.5'),
    (_STATE_TIME, rb'(?<="state_time":)1'),
    (_EVENT_TIME, rb'(?<="event_time":)2'),
    (_COLD, rb'(?<="cold_start":)false'),
    (_AUTOMATED, rb'(?<="automated":)false'),
    (_WAIT, rb'(?<="expected_wait_ms":)1'),
    (_SPEND, rb'(?<="expected_spend":)3\.5'),
    (_HORIZON, rb'(?<="horizon_ms":)0(?=[,}])'),
)
"""What stands in the pattern for what differs. Within texts a quote has a backslash before it."""
_LONGEST_NUMBER: Final = 20
_MOST_DIGITS: Final = 19
_PAIRS: Final = np.frombuffer(b"".join(b"%02d" % n for n in range(100)), np.uint8).copy()
"""The texts of 00 to 99: a division per two digits."""


class Pattern(NamedTuple):
    """A prediction with gaps: text, gap, text, gap, ..., text."""

    text: U8
    ends: I64
    """Where in ``text`` each piece ends."""
    gaps: I64
    """What belongs behind each piece but the last."""


class Predictions(NamedTuple):
    """What goes into the gaps, for N predictions; S probabilities: K targets, then survival."""

    users: U8
    """The user ids in UTF-8, one behind the other."""
    user_ends: I64
    offsets: I64
    state_times: I64
    event_times: I64
    scores_NS: I64
    """Probabilities in units of the last decimal."""
    cold: NDArray[np.bool_]
    automated: NDArray[np.bool_]
    waits: I64
    """Expected waits, ms; [0] where the pattern has none."""
    spend: I64
    """Expected amounts, 1 / AMOUNT_UNIT; [0] likewise."""
    horizons: I64
    """[N,O] horizons of users' own, ms; of the pattern's O targets whose horizon is 0."""


def pattern_of(blank: Prediction, topic: str, partition: int) -> Pattern:
    """The pattern of predictions that are like ``blank`` but in what `Predictions` holds."""
    offset = 10**15
    fixed = f"{blank.model_version}{topic}{blank.feature_version}{blank.recalibration}"
    while str(offset) in fixed:
        offset += 1
    marked = msgspec.structs.replace(
        blank,
        prediction_id=prediction_id(
            blank.model_version, topic, partition, offset, _moment_of(blank)
        ),
        user_id="u",
        targets={name: TargetScore(0.5, t.horizon_ms) for name, t in blank.targets.items()},
        expected_spend=None if blank.expected_spend is None else 3.5,
        expected_wait_ms=UNSET if blank.expected_wait_ms is UNSET else 1,
        survival=UNSET
        if blank.survival is UNSET
        else [SurvivalPoint(point.horizon_ms, 0.5) for point in blank.survival],
        state_time=1,
        event_time=2,
        source=Source(topic, partition, offset),
        cold_start=False,
        automated=False,
    )
    marks = ((_OFFSET, str(offset).encode()), *_MARKS)
    whole = re.compile(b"|".join(b"(%s)" % mark for _, mark in marks))
    text = encode(marked)
    pieces, gaps, at = [], [], 0
    for match in whole.finditer(text):
        pieces.append(text[at : match.start()])
        gaps.append(marks[(match.lastindex or 0) - 1][0])
        at = match.end()
    pieces.append(text[at:])
    ends = np.cumsum([len(piece) for piece in pieces])
    return Pattern(np.frombuffer(b"".join(pieces), np.uint8), ends, np.array(gaps))


def _moment_of(blank: Prediction) -> int | None:
    return None if blank.reason is UNSET else _MOMENT


def room_for(pattern: Pattern, predictions: Predictions) -> U8:
    """An array in which they have room."""
    count = len(predictions.offsets)
    users = int(predictions.user_ends[-1]) if count else 0
    longest = int(pattern.ends[-1]) + len(pattern.gaps) * _LONGEST_NUMBER
    return np.empty(count * longest + users, np.uint8)


@kernel
def _integer(value: int, out: U8, at: int) -> int:
    """Write a number that is not negative."""
    rest, ten, hundred = np.uint64(value), np.uint64(10), np.uint64(100)
    digits, power = 1, ten
    while digits < _MOST_DIGITS and rest >= power:
        digits += 1
        power *= ten
    end = place = at + digits
    while rest >= hundred:
        higher = rest // hundred
        pair = 2 * np.int64(rest - higher * hundred)
        place -= 2
        out[place], out[place + 1] = _PAIRS[pair], _PAIRS[pair + 1]
        rest = higher
    if rest >= ten:
        pair = 2 * np.int64(rest)
        out[at], out[at + 1] = _PAIRS[pair], _PAIRS[pair + 1]
    else:
        out[at] = np.uint64(48) + rest
    return end


@kernel
def _probability(units: int, out: U8, at: int) -> int:
    """Write units / 10**7 as the shortest text that means it."""
    if units >= _UNITS or units == 0:
        out[at], out[at + 1], out[at + 2] = 49 if units else 48, 46, 48
        return at + 3
    digits = DIGITS
    while units % 10 == 0:
        units //= 10
        digits -= 1
    if digits >= 6 and units < 10 ** (digits - 5):  # below 10**-5: with an exponent
        tens = units >= 10
        if tens:
            out[at], out[at + 1] = 48 + units // 10, 46
            at += 2
        out[at], out[at + 1], out[at + 2] = 48 + units % 10, 101, 45
        out[at + 3] = 48 + digits - (1 if tens else 0)
        return at + 4
    out[at], out[at + 1] = 48, 46
    at += 2
    for place in range(digits - 1, -1, -1):
        out[at + place] = 48 + units % 10
        units //= 10
    return at + digits


@kernel
def _amount(units: int, out: U8, at: int) -> int:
    """Write units / AMOUNT_UNIT, less than 10**15 units, as the shortest text that means it."""
    at = _integer(units // _AMOUNTS, out, at)
    out[at] = 46
    part, size = units % _AMOUNTS, _AMOUNTS // 10
    at += 1
    out[at] = 48 + part // size
    at += 1
    part %= size
    while part:
        size //= 10
        out[at] = 48 + part // size
        at += 1
        part %= size
    return at


@kernel
def _boolean(value: bool, out: U8, at: int) -> int:
    if value:
        out[at], out[at + 1], out[at + 2], out[at + 3] = 116, 114, 117, 101
        return at + 4
    out[at], out[at + 1], out[at + 2], out[at + 3], out[at + 4] = 102, 97, 108, 115, 101
    return at + 5


@kernel
def _user(users: U8, begin: int, end: int, out: U8, at: int) -> int:
    """Write a text in quotes; -1 if it needs escapes."""
    out[at] = 34
    at += 1
    for i in range(begin, end):
        byte = users[i]
        if byte < 32 or byte in (34, 92):
            return -1
        out[at] = byte
        at += 1
    out[at] = 34
    return at + 1


@kernel
def write_predictions(pattern: Pattern, predictions: Predictions, out: U8, ends: I64) -> Any:
    """Write N predictions one behind the other.

    Args:
        pattern: what they have in common.
        predictions: and what not.
        out: room for them.
        ends: where each ends, to be filled.

    Returns:
        Which users' ids need escapes: what is written of them is no prediction.
    """
    count = len(predictions.offsets)
    odd = np.zeros(count, np.bool_)
    at = begin = 0
    for i in range(count):
        end, k, start, own = predictions.user_ends[i], 0, 0, 0
        for piece in range(len(pattern.ends)):
            stop = pattern.ends[piece]
            at = put_bytes(out, at, pattern.text, start, stop)
            start = stop
            if piece == len(pattern.gaps):
                break
            gap = pattern.gaps[piece]
            if gap == _OFFSET:
                at = _integer(predictions.offsets[i], out, at)
            elif gap == _USER:
                after = _user(predictions.users, begin, end, out, at)
                odd[i] = after < 0
                at = max(at, after)
            elif gap == _PROBABILITY:
                at = _probability(predictions.scores_NS[i, k], out, at)
                k += 1
            elif gap == _STATE_TIME:
                at = _integer(predictions.state_times[i], out, at)
            elif gap == _EVENT_TIME:
                at = _integer(predictions.event_times[i], out, at)
            elif gap == _COLD:
                at = _boolean(predictions.cold[i], out, at)
            elif gap == _AUTOMATED:
                at = _boolean(predictions.automated[i], out, at)
            elif gap == _WAIT:
                at = _integer(predictions.waits[i], out, at)
            elif gap == _HORIZON:
                at = _integer(predictions.horizons[i, own], out, at)
                own += 1
            else:
                at = _amount(predictions.spend[i], out, at)
        begin = end
        ends[i] = at
    return odd
