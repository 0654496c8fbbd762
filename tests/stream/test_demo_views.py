"""What the demo shows while it runs and at its end."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from msgspec import structs
from rich.console import Console

from schemas.codec import encode
from schemas.events import Purchase
from schemas.examples import EXAMPLES
from schemas.outputs import ChurnAlert
from stream.cli.demo import _alert_lines, contest_lines
from stream.config.durations import DAY_MS
from stream.config.settings import Settings
from stream.demo.collector import Collector
from stream.demo.dashboard import Dashboard
from stream.demo.plan import Plan, plan_bundled
from stream.demo.summary import contest, problems, summary
from stream.demo.view import View
from stream.replay.report import Report


def empty_run() -> tuple[Plan, Collector, Report]:
    plan = plan_bundled()
    return plan, Collector(Settings(), replace(plan.outcome_rules(), since=0)), Report()


def test_a_run_without_figures_is_no_success():
    plan, collector, report = empty_run()
    found = problems(summary(plan, collector, report, 60, 61.2, []))
    assert len(found) == 2
    assert "only one model" in found[0]
    assert "matured" in found[1]
    figures = summary(plan, collector, report, 60, 61.2, []) | {
        "consumed": 3,
        "predictions_read": 1,
    }
    assert len(problems(figures)) == 5


def taken(collector: Collector, topic: str, message: object) -> None:
    collector._take[topic](SimpleNamespace(value=encode(message), partition=0))


def test_alerts_stand_beside_a_rule_of_fixed_inactivity():
    """Two users leave on day 190 and 191, others come every week; one is alerted."""
    plan, collector, report = empty_run()
    topics, users = collector.settings.topics, {"gone": (170, 183, 190), "left": (171, 184, 191)}
    users |= {f"here{n}": tuple(range(170 + n, 370, 7)) for n in range(5)}
    for user, days in users.items():
        for day in days:
            time = plan.since + day * DAY_MS
            taken(
                collector,
                topics.events,
                Purchase(event_id=f"{user}-{day}", user_id=user, event_time=time),
            )
    example = EXAMPLES[ChurnAlert]
    for state, day in (("raised", 210), ("escalated", 220)):
        time = plan.since + day * DAY_MS
        alert = structs.replace(example, user_id="gone", state=state, event_time=time)
        taken(collector, topics.churn, alert)
    figures = summary(plan, collector, report, 60, 61.2, [])
    both = figures["alerts_and_rule"]
    assert both["alerts"]["raised"] == both["alerts"]["precision"] == 1
    assert both["alerts"]["recall"] == 0.5
    assert both["rule"]["raised"] <= 1
    assert "100.0% were right, and 50.0% of the lost orders" in _alert_lines(figures)[-1]
    closing = structs.replace(example, user_id="gone", state="resolved", event_time=time + 1)
    taken(collector, topics.churn, closing)
    found = summary(plan, collector, report, 60, 61.2, [])["alerts_and_rule"]["alerts"]
    assert found["recall"] == 0


def test_the_end_says_who_wins_each_figure():
    beside = {
        "alerts": {"precision": 0.7, "recall": 0.2},
        "rule": {"precision": 0.6, "recall": 0.2},
    }
    at_events = {"ece": 0.02, "rule_ece": 0.05, "ece_chance": 0.01}
    at_timers = {"ece": 0.09, "rule_ece": 0.05, "ece_chance": 0.01}
    rows = contest(beside, {"churn": {"event": at_events, "timer": at_timers}})
    assert [(row["name"], row["winner"]) for row in rows] == [
        ("alert precision", "model"),
        ("alert recall", "neither"),
        ("live ECE of churn at events", "model"),
        ("live ECE of churn at timers", "rule"),
    ]
    lines = contest_lines({"contest": rows})
    assert lines[0].split() == ["model", "fixed", "rule", "chance", "wins"]
    assert lines[1].split() == ["alert", "precision", "0.700", "0.600", "-", "model"]
    assert lines[-1].endswith("0.090  0.050       0.010   rule")
    assert contest(None, {}) == contest_lines({"contest": []}) == []


def test_each_number_of_alerts_says_what_it_counts():
    plan, collector, report = empty_run()
    figures = summary(plan, collector, report, 60, 61.2, []) | {
        "alerts": 12,
        "alerts_raised": 5,
        "alerts_escalated": 3,
        "alerts_resolved": 4,
        "alerts_judged": {"raised": 4, "right": 2, "wrong": 1, "unknown": 1},
        "alert_precision": 2 / 3,
    }
    assert _alert_lines(figures) == [
        (
            "alert messages of history and live part: 12 = 5 raised + 3 escalated + 4 resolved"
            " + 0 retracted"
        ),
        (
            "alerts raised in the live part: 4 = 2 right + 1 wrong + 1 not known yet; 66.7% of the"
            " known ones were right"
        ),
    ]


@pytest.mark.parametrize("height", [12, 60])
def test_the_picture_fits_the_terminal(height):
    console = Console(force_terminal=True, width=120, height=height, record=True)
    dashboard = Dashboard(console)
    try:
        dashboard.phase("starting")
        dashboard.show(*empty_run())
        dashboard.update()
        shown = console.render_lines(dashboard._picture(), pad=False)
    finally:
        dashboard.close()
    assert len(shown) < height or height == 12
    assert len(shown) <= 14 or height == 60


def test_the_picture_shows_live_calibration_at_events_and_at_timers_apart():
    plan, collector, report = empty_run()
    for n in range(40):
        window = collector.joiner._windows.of(None, "churn")
        window.add(n % 2 == 0, 0.5, 1.0, f"u{n}", "event" if n < 20 else "timer")
    console = Console(force_terminal=False, width=160, height=60, record=True)
    dashboard = Dashboard(console)
    try:
        dashboard.show(plan, collector, report)
        dashboard.update()
    finally:
        dashboard.close()
    said = console.export_text()
    for place in ("at events", "at timers"):
        (line,) = [line for line in said.splitlines() if place in line]
        assert "20" in line.split()
        assert "(chance 0." in line


def test_lines_for_pipes(capsys):
    view = View()
    view.show(*empty_run())
    view.phase("live")
    view.update()
    view.close()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert "online_retail_uci.parquet: 2010-12-01 08:26:00 to 2011-12-09 12:50:00" in said[0]
