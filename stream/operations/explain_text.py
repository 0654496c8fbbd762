"""An explanation in words: what was predicted, the user's history, and what moved each score."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from models.inputs.features import HOUR
from models.kernels.recent import AGO, EVENT_DAYS, ORDER_DAYS, SESSION_DAYS
from stream.operations.watch import duration, moment, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.serving.explain import Attribution
    from stream.operations.explain import Explanation

__all__ = ["explanation_lines", "feature_words"]

SHOWN: Final = 5
"""Features, and events, that are named per target."""
LEAST: Final = 5e-5
"""Shares of the log-odds that round to 0.0000 are left out."""
LATEST: Final = 5
"""Events of the history that are listed."""


def _span(value: float) -> str:
    return duration(round(math.expm1(value) * HOUR))


def _count(value: float) -> str:
    return f"{math.expm1(value):,.0f}"


def _number(value: float) -> str:
    return f"{math.expm1(value):,.2f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _truth(value: float) -> str:
    return "yes" if value else "no"


_WORDS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "log_silence_hours": ("time since the last event", _span),
    "log_since_purchase_hours": ("time since the last purchase", _span),
    "log_tenure_hours": ("time since the first event", _span),
    "log_views": ("views", _count),
    "log_searches": ("searches", _count),
    "log_favourites": ("favourites", _count),
    "log_cart_adds": ("items put into the cart", _count),
    "log_cart_removes": ("items taken out of the cart", _count),
    "log_purchases": ("items bought", _count),
    "log_refunds": ("items given back", _count),
    "log_orders": ("orders", _count),
    "log_spend": ("money spent", _number),
    "log_order_value": ("money per order", _number),
    "log_expected_gap_hours": ("expected time between orders", _span),
    "log_overdue": ("time since the last order, in expected times between orders", _number),
    "log_sessions": ("visits", _count),
    "log_session_age_hours": ("length of the last visit", _span),
    "has_purchase": ("has bought", _truth),
    "log_events_per_session": ("events per visit", _number),
    "log_purchase_span_hours": ("time from the first to the last purchase", _span),
    "log_orders_per_day": ("orders per day", _number),
    "refund_share": ("share of the money given back", _share),
    "has_discount": ("has bought at a discount", _truth),
    "discount_share": ("share of the prices that discounts took off", _share),
    **{f"log_orders_{d}d": (f"orders in the last {d} days", _count) for d in ORDER_DAYS},
    "has_order_gap": ("has ordered twice", _truth),
    "log_median_order_gap_hours": ("median time between orders", _span),
    "log_longest_order_gap_hours": ("longest time between orders", _span),
    "log_overdue_median": ("time since the last order, in median times between orders", _number),
    "log_overdue_longest": ("time since the last order, in longest times between", _number),
    **{
        f"log_{name}_{days}d": (
            f"{words} in the last {'day' if days == 1 else f'{days} days'}",
            _count,
        )
        for name, words in (
            ("events", "events"),
            ("views", "views"),
            ("cart_adds", "items put into the cart"),
        )
        for days in EVENT_DAYS
    },
    **{
        f"log_sessions_{days}d": (f"visits in the last {days} days", _count)
        for days in SESSION_DAYS
    },
    "cart_filled": ("has something in the cart", _truth),
    "log_cart_value": ("money in the cart", _number),
    "last_is_view": ("the last event is a view", _truth),
    "last_is_cart_add": ("the last event put an item into the cart", _truth),
    "last_is_purchase": ("the last event is a purchase", _truth),
    "log_session_events": ("events of this visit", _count),
    "log_session_views": ("views of this visit", _count),
    "log_session_searches": ("searches of this visit", _count),
    "log_session_cart_adds": ("items put into the cart in this visit", _count),
    "log_session_items": ("different items of this visit", _count),
    "log_session_categories": ("different categories of this visit", _count),
    "log_repeated_views": ("views of this visit of an item viewed before", _count),
    "log_searched_views": ("views of this visit right after a search", _count),
    "log_same_item": ("earlier events of this visit with the last one's item", _count),
    **{
        f"same_{what}_{ago}_ago": (f"the last event has the {what} of {ago} before it", _truth)
        for what in ("item", "category")
        for ago in range(1, AGO + 1)
    },
}


def feature_words(name: str, value: float) -> str:
    """A feature of the history with its value as people say it: "orders 3"."""
    words, shown = _WORDS.get(name, (name, lambda number: f"{number:.3f}"))
    return f"{words} {shown(value)}"


def explanation_lines(found: Explanation) -> Iterator[str]:
    """The lines that `intentstream explain` prints; texts of events cannot steer a terminal."""
    yield f"prediction {found.prediction_id}"
    yield (
        f"user {printable(found.user_id)}, model {found.model_version}, made at"
        f" {moment(found.at)} UTC"
    )
    yield from _history(found)
    for target, probability in found.reproduced.items():
        yield ""
        yield from _target(found, target, probability)
    yield from _others(found)
    yield ""
    yield _verdict(found)


def _history(found: Explanation) -> Iterator[str]:
    profile = found.profile
    parts = [
        feature_words(name, profile[name])
        for name in ("log_tenure_hours", "log_sessions", "log_orders", "log_spend")
        if name in profile
    ]
    yield f"history: {found.events:,} events; {', '.join(parts)}"
    events = next(iter(found.history.values()), ())[-LATEST:]
    for event in events:
        item = f" of {printable(event.item_id)}" if event.item_id else ""
        yield f"  {moment(event.event_time)} {event.type}{item}, event {printable(event.event_id)}"


def _target(found: Explanation, target: str, probability: float) -> Iterator[str]:
    told = "not kept" if found.published is None else f"{found.published[target]:.7f}"
    within = duration(found.horizons_ms[target])
    yield f"{target}: {probability:.1%} within {within} ({probability:.7f}, published {told})"
    of_target = found.attributions.get(target)
    if of_target is None:
        return
    yield (
        f"  log-odds {of_target.logit:+.2f}; of a user of whom nothing is known"
        f" {of_target.baseline:+.2f}; the difference comes from:"
    )
    yield from _features(found, of_target)
    for event in sorted(found.history[target], key=lambda e: -abs(e.attribution or 0))[:SHOWN]:
        if abs(event.attribution or 0) >= LEAST:
            name = printable(event.event_id)
            yield f"  {event.attribution:+.4f} {event.type} {name} at {moment(event.event_time)}"


def _features(found: Explanation, of_target: Attribution) -> Iterator[str]:
    strongest = sorted(of_target.profile.items(), key=lambda pair: -abs(pair[1]))[:SHOWN]
    for name, share in strongest:
        if abs(share) >= LEAST:
            yield f"  {share:+.4f} {feature_words(name, found.profile[name])}"


def _others(found: Explanation) -> Iterator[str]:
    if found.reproduced_wait_ms is not None:
        published = found.published_wait_ms
        told = "not kept" if published is None else f"{published}"
        yield ""
        yield (
            f"next purchase expected in {duration(found.reproduced_wait_ms)}"
            f" ({found.reproduced_wait_ms} ms, published {told})"
        )
    for what, names in found.reproduced_next.items():
        first = ", ".join(f"{printable(name)} {share:.1%}" for name, share in names.items())
        yield f"next {what}: {first}"


def _verdict(found: Explanation) -> str:
    if found.exact is None:
        return "the published prediction is not kept any more: nothing to compare with"
    if found.exact:
        return "made again from the log: equal to the published numbers to the last digit"
    return "made again from the log: NOT equal to the published numbers"
