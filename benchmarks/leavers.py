"""Rules that find leavers, at one precision: `python -m benchmarks.leavers`, without a broker.

The fixed rule "no event for so long", multiples of the user's own gap, and a logistic regression on
inactivity and the user's own gaps that learns from the log before the cut. See
`models/evaluation/leaver_rules.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from benchmarks.alert_quality import SHOPS, plan_of
from models.evaluation.leaver_curves import best, curve, to_json
from models.evaluation.leaver_rules import DAY, FEATURES, Own, Times, ask, column, logistic
from schemas.codec import decode_event
from schemas.events import EventType
from stream.config.settings import Settings
from stream.demo.alert_figures import orders_of
from stream.demo.feed import Feed
from stream.demo.plan import Plan
from stream.replay.report import Report

FIXED: Final = "inactivity"
RULES: Final = (FIXED, "since_order", "since_order_by_gap", "inactivity_by_gap")


def shop_of(plan: Plan) -> dict[str, Times]:
    """All users' events and orders."""
    times: dict[str, list[int]] = {}
    kinds: dict[str, list[int]] = {}
    for row in Feed(plan, Report()).before(plan.until):
        event = decode_event(row.value)
        times.setdefault(event.user_id, []).append(event.event_time)
        kinds.setdefault(event.user_id, []).append(event.code)
    gap, found = Settings().state.session_gap_ms, {}
    for user, own in times.items():
        events = np.sort(np.array(own, np.int64))
        bought = np.array(own)[np.array(kinds[user]) == EventType.PURCHASE.value]
        found[user] = Times(events, orders_of(np.sort(bought), gap))
    return found


def compare(plan: Plan, shop: dict[str, Times], factor: float) -> dict[str, Any]:
    """The rules at each tenth of precision that the fixed rule reaches."""
    early = [np.diff(each.orders[each.orders < plan.cut]) for each in shop.values()]
    own = Own(factor, plan.min_gap, int(np.concatenate(early).mean()))
    asked = ask(shop, own, plan.min_orders, plan.until)
    scores = {name: column(asked, name) for name in RULES} | {"logistic": logistic(asked, plan.cut)}
    curves = {name: curve(asked, one, plan.cut, plan.until) for name, one in scores.items()}
    reached = max(one.precision for one in curves[FIXED])
    levels = [tenth / 10 for tenth in range(3, 10) if tenth / 10 <= reached]
    return {
        "factor": factor,
        "features": FEATURES,
        "prior_gap_days": round(own.prior_gap / DAY, 1),
        "at_precision": {
            str(level): {name: to_json(best(found, level)) for name, found in curves.items()}
            for level in levels
        },
    }


def main(
    shops: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SHOPS)}.")] = None,
    folder: Annotated[Path, typer.Option(help="Keeps simulated events.")] = Path(
        "var/alert-quality"
    ),
    factor: Annotated[float, typer.Option(help="Expected gaps without an order: gone.")] = 2.0,
) -> None:
    """Print one JSON document per shop."""
    for name in shops or SHOPS:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        plan = plan_of(name, place)
        typer.echo(json.dumps({"shop": name, **compare(plan, shop_of(plan), factor)}))


if __name__ == "__main__":
    typer.run(main)
