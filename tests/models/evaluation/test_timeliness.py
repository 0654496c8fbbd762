"""Alerts by the published model beside rules: asked when timers ask, knowing nothing later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.contest import ContestConfig
from models.evaluation.leaver_rules import Times, ask
from models.evaluation.moments import Histories
from models.evaluation.results import TaskResult
from models.evaluation.timeliness import (
    BASELINES,
    PUBLISHED,
    Gone,
    last_events,
    risks_of,
    run,
    times_of,
    trained,
)
from models.log.eventlog import EventLog
from models.targets import CHURN
from tests.models.shop import DAY, PURCHASE, START, log_of, shop_log

CUT = START + 110 * DAY
GONE = Gone(2.0, 4, 14, 10, fixed=14, purchase=7)
TASK = replace(
    GONE.tasks("small", "A small shop", shop_log(users=5), CUT)[1], until=START + 200 * DAY
)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return shop_log(users=500, days=200)


@pytest.fixture(scope="module")
def result(log: EventLog) -> TaskResult:
    return run(TASK, log, ContestConfig(seeds=(0,)), lambda _: None)


@pytest.mark.full
def test_leavers_are_found_and_the_page_says_by_whom(result: TaskResult) -> None:
    assert set(result.models) == {*BASELINES, PUBLISHED}
    for name in (PUBLISHED, "inactivity"):
        assert 0.1 < result.models[name].mean("recall") <= 1
        assert 0 < result.models[name].mean("lead_days") < 14
    told = [note for note in result.notes if "times as many" in note and "inactivity" in note]
    assert told
    assert all("95 %" in note and "sure" in note for note in told)
    recall, lead = result.panels
    for panel in (recall, lead):
        assert set(panel.lines) == set(result.models)
    x, y = recall.lines["inactivity"]
    assert len(x) == len(y) > 20


@pytest.mark.full
def test_a_risk_knows_no_later_event(log: EventLog) -> None:
    scorer = trained("small", log, TASK.targets, CUT, 0)
    histories = Histories.of(log)
    asked = ask(times_of(histories), TASK.own, 2, TASK.until, TASK.timers, CUT)
    risks = risks_of(scorer, histories, asked)
    assert ((risks > 0) & (risks < 1)).all()
    assert risks.std() > 0.05
    for question in range(0, len(risks), len(risks) // 5):
        at = int(asked.at[question])
        known = Histories.of(log.until(at))
        name = histories.ordered.log.users[histories.ordered.starts][
            asked.user[asked.order[question]]
        ]
        names = known.ordered.log.users[known.ordered.starts]
        one = replace(
            asked,
            order=np.zeros(1, np.intp),
            at=np.array([at]),
            user=np.array([int(np.searchsorted(names, name))]),
        )
        assert risks_of(scorer, known, one)[0] == pytest.approx(risks[question], abs=1e-6)


def test_the_last_event_at_or_before_a_time() -> None:
    days = [0, 5, 5, 9, 3]
    log = log_of([0, 0, 0, 0, 1], [START + day * DAY for day in days], [PURCHASE] * 5)
    histories = Histories.of(log)
    user = np.array([0, 0, 0, 0, 1])
    at = START + np.array([0, 4, 5, 400, 3]) * DAY
    assert last_events(histories, user, at).tolist() == [0, 0, 2, 3, 4]
    found = times_of(histories)
    assert isinstance(found[0], Times)
    assert ((found[0].orders - START) / DAY).tolist() == [0, 5, 9]


def test_gone_is_what_the_models_target_says() -> None:
    by_gaps, fixed = GONE.tasks("small", "A small shop", shop_log(users=5), CUT)
    often, seldom = (START + np.array([0, days]) * DAY for days in (0.5, 4))
    assert fixed.own.horizon(often) == fixed.own.horizon(seldom) == 14 * DAY
    churn = next(target for target in by_gaps.targets if target.name == CHURN)
    for orders in (often, seldom, np.repeat(often, 4)):
        gap = by_gaps.own.gap(orders)
        assert by_gaps.own.horizon(orders) == churn.own_horizons(np.array([gap]))[0]
    assert by_gaps.own.horizon(often) == 10.5 * DAY
    # A horizon of four days is over sooner, but counts as known no sooner than one of fourteen.
    asked = ask({0: Times(often, often)}, by_gaps.own, 2, START + 20 * DAY)
    assert asked.settled.tolist() == [14 * DAY]
