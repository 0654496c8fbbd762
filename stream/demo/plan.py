"""What the demo replays, and the settings that fit the rhythm of that shop.

All durations are shares of the time that the data spans, so that a year of a wholesaler and nine
days of a marketplace go through the same demo: the first part is learnt from, and three churn
horizons fit into it, which is what the trainer needs.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.history import PURCHASE
from models.targets import Target, shop_targets
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS
from stream.demo.alert_figures import Period
from stream.demo.errors import DemoError
from stream.outcomes.rules import OutcomeRules
from stream.replay.adapter import AS_FOUND, Wanted
from stream.replay.report import Report
from stream.replay.source import Order, read_rows

__all__ = ["BUNDLED", "Plan", "Thresholds", "plan_bundled", "plan_for"]

BUNDLED: Final = Path(__file__).parents[2] / "data" / "online_retail_uci.parquet"
BUNDLED_FORMAT: Final = "online-retail"
_BUNDLED_FIRST: Final = 1_291_191_960_000
"""2010-12-01 08:26, the first invoice."""
_BUNDLED_LAST: Final = 1_323_435_000_000
"""2011-12-09 12:50, the last one."""
_BUNDLED_CUT: Final = 1_306_886_400_000
"""2011-06-01."""

_CUT: Final = 0.55
_PURCHASE: Final = 0.06
_CHURN: Final = 0.085
_PRIOR_GAP: Final = 0.08
_MIN_GAP: Final = 0.019
_COOLDOWN: Final = 0.0375
_TICKS: Final = 373
_SHORTEST_MS: Final = 12 * HOUR_MS
_DAYS_FROM_MS: Final = 8 * DAY_MS
_STRAY: Final = 0.002
"""Events before and after which share of all are taken for wrong clocks."""
_SLACK: Final = 0.02
"""By how much of the span an event may lie outside the rest before it is one of these."""


@dataclass(frozen=True)
class Thresholds:
    """Risks at which alerts are raised, escalated and resolved."""

    raise_at: float
    escalate_at: float
    resolve_at: float

    @classmethod
    def of(cls, churn_rate: float) -> Thresholds:
        """Clearly above and below the rate of churn that the trainer saw in its last slice."""
        rest = 1 - churn_rate
        return cls(
            raise_at=round(churn_rate + 0.1 * rest, 4),
            escalate_at=round(churn_rate + 0.3 * rest, 4),
            resolve_at=round(0.65 * churn_rate, 4),
        )


@dataclass(frozen=True)
class Plan:
    """What is replayed and when; times and durations in ms."""

    file: Path
    format: str
    since: int
    cut: int
    """Events before it are history to learn from, the others are live."""
    until: int
    """After the last event."""
    purchase_horizon: int
    churn_horizon: int
    prior_gap: int
    min_gap: int
    cooldown: int
    tick: int
    min_orders: int
    """Orders from which on a user can be lost."""
    limit: int | None = None
    wanted: Wanted = AS_FOUND
    """How the file writes dates and decimals, where it does not tell by itself."""
    gaps: float = 0.0
    """Of the user's own expected gaps without an order: gone, at most `churn_horizon`; 0: that for
    all."""

    def overrides(self) -> dict[str, Any]:
        """Settings for trainer and worker, without the thresholds."""
        return {
            "worker": {"clock": "event", "emit": "latest", "predict_at_timers": True},
            "train": {
                "purchase_horizon_ms": self.purchase_horizon,
                "churn_horizon_ms": self.churn_horizon,
                **({"churn_gaps": self.gaps, "churn_floor_ms": self.min_gap} if self.gaps else {}),
                "epochs": 8,
                "patience": 2,
            },
            "churn": {
                "min_orders": self.min_orders,
                "prior_gap_ms": self.prior_gap,
                "min_gap_ms": self.min_gap,
                "cooldown_ms": self.cooldown,
                "escalate_after_ms": self.cooldown,
                "replay_tick_ms": self.tick,
            },
        }

    def outcome_rules(self) -> OutcomeRules:
        """How live predictions and alerts are judged."""
        return OutcomeRules(
            targets=self.targets(),
            churn_horizon_ms=self.churn_horizon,
            min_orders=self.min_orders,
            since=self.cut,
        )

    def targets(self) -> tuple[Target, Target]:
        """What is predicted: purchase and churn."""
        purchase, churn = shop_targets(PURCHASE, self.purchase_horizon, self.churn_horizon)
        if self.gaps:
            own = {"gaps": self.gaps, "floor_ms": self.min_gap, "prior_gap_ms": self.prior_gap}
            churn = msgspec.structs.replace(churn, **own)
        return purchase, churn

    def period(self) -> Period:
        """What alerts are judged in, and by which horizons."""
        own = self.targets()[1] if self.gaps else None
        return Period(self.cut, self.until, self.churn_horizon, self.min_orders, own)

    def milestones(self, refreshes: int) -> list[int]:
        """Ends of the live parts: equally long, one more than there are refreshes, and a last."""
        parts = refreshes + 2
        length = self.until - self.cut
        return [self.cut + length * part // parts for part in range(1, parts)] + [self.until]


def plan_bundled() -> Plan:
    """The data that ships with the project: UCI Online Retail, December 2010 to December 2011."""
    if not BUNDLED.is_file():
        raise DemoError(
            f"{BUNDLED} is not there: run the demo from a checkout of the project, or pass --data"
            " FILE --format F"
        )
    return Plan(
        file=BUNDLED,
        format=BUNDLED_FORMAT,
        since=_BUNDLED_FIRST,
        cut=_BUNDLED_CUT,
        until=_BUNDLED_LAST + 1,
        purchase_horizon=28 * DAY_MS,
        churn_horizon=42 * DAY_MS,
        gaps=2.0,
        prior_gap=30 * DAY_MS,
        min_gap=DAY_MS,
        cooldown=14 * DAY_MS,
        tick=DAY_MS,
        min_orders=2,
    )


def plan_for(
    file: Path, format_name: str, limit: int | None = None, wanted: Wanted = AS_FOUND
) -> Plan:
    """Look through a file once, and scale everything to the time that it spans.

    Raises:
        DemoError: it spans too little time.
        ReplayError: it cannot be read as this format.
    """
    report = Report()
    order: Order = "file" if limit is None else "time"
    rows = read_rows(file, format_name, report, order=order, limit=limit, wanted=wanted)
    times = np.frombuffer(array("q", (row.time for row in rows)), np.int64)
    if len(times) == 0:
        raise DemoError(report.why_nothing())
    first, last = (int(t) for t in np.quantile(times, [_STRAY, 1 - _STRAY]))
    slack = round((last - first) * _SLACK)
    inside = times[(times >= first - slack) & (times <= last + slack)]
    plan = scaled(file, format_name, int(inside.min()), int(inside.max()) + 1, limit)
    return replace(plan, wanted=wanted)


def scaled(file: Path, format_name: str, since: int, until: int, limit: int | None = None) -> Plan:
    """The plan for data that spans [since, until).

    Raises:
        DemoError: that is too little time.
    """
    span = until - since
    if span < _SHORTEST_MS:
        raise DemoError(
            f"{file} spans {span / HOUR_MS:.1f} h of events: the demo learns from the first half"
            f" and needs at least {_SHORTEST_MS / HOUR_MS:.0f} h; pass a longer file"
        )

    # Shops have a rhythm of days: a part of one day, say its evening, is not like the next.
    whole = DAY_MS if span >= _DAYS_FROM_MS else MINUTE_MS

    def part(share: float, unit: int = MINUTE_MS) -> int:
        return max(round(span * share / unit), 1) * unit

    return Plan(
        file=file,
        format=format_name,
        since=since,
        # Rounded down: what is left must have room for the labels to mature.
        cut=since + int(span * _CUT / whole) * whole,
        until=until,
        purchase_horizon=part(_PURCHASE, whole),
        churn_horizon=part(_CHURN, whole),
        prior_gap=part(_PRIOR_GAP),
        min_gap=part(_MIN_GAP),
        cooldown=part(_COOLDOWN),
        tick=part(1 / _TICKS),
        # Of a short log hardly anyone's second order is known.
        min_orders=1,
        limit=limit,
    )
