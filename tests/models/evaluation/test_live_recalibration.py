"""Weekly recalibrations over half a log are point-in-time, and mend a drift that goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.errors import EvaluationError
from models.evaluation.contest import ContestConfig
from models.evaluation.live_recalibration import AFTER, BEFORE, drifting, run, served
from models.history import PURCHASE as BOUGHT
from models.log.eventlog import EventLog
from models.targets import shop_targets
from tests.models.shop import DAY, PURCHASE, START, shop_log

TARGETS = shop_targets(PURCHASE, 3 * DAY, 7 * DAY)
CONFIG = ContestConfig(seeds=(0,))


@pytest.fixture(scope="module")
def log() -> EventLog:
    return drifting(shop_log(users=400, days=100))


def test_a_drifting_shop_loses_purchases_from_its_middle_on() -> None:
    whole = shop_log(users=200, days=60)
    thinned = drifting(whole)
    middle = (whole.events.time.min() + whole.events.time.max()) / 2
    for part, lost in ((whole.events.time <= middle, False), (whole.events.time > middle, True)):
        before = whole.where(part)
        after = thinned.where(np.isin(thinned.events.id, before.events.id))
        bought = [int((each.events.type == BOUGHT).sum()) for each in (before, after)]
        assert (bought[1] < 0.9 * bought[0]) == lost


@pytest.mark.full
def test_each_target_and_population_has_both_figures(log: EventLog) -> None:
    results = run("live", "A shop", log, TARGETS, CONFIG, lambda _: None)
    assert [result.task for result in results] == [
        f"live_{target}_{population}"
        for target in ("purchase", "churn")
        for population in ("event", "timer")
    ]
    for result in results:
        assert set(result.models) == {BEFORE, AFTER}
        assert len(result.labels) == len(result.probabilities[AFTER]) > 300
        assert "ECE as_trained" in result.notes[1]
        assert ("events" in result.where) == result.task.endswith("_event")
        for name, (said, came) in result.panels[0].lines.items():
            assert ", ECE 0." in name
            # Tenths of the users' weight: the mean of all is that of what was said and came true.
            assert abs(said.mean() - came.mean()) <= float(name.split("ECE ")[1]) + 0.02
            assert (np.diff(said) >= 0).all()
        assert result.models[AFTER].mean("log_loss") < result.models[BEFORE].mean("log_loss") + 0.01


@pytest.mark.full
def test_what_is_in_effect_does_not_depend_on_what_came_later(log: EventLog) -> None:
    """Labels turned around in the last weeks change no map of an earlier week."""
    live = served(log, TARGETS, CONFIG.fit)
    middle = int(live.examples.now[live.rows].min())
    assert middle > START
    early = live.examples.now[live.rows] < middle + 14 * DAY
    end = int(log.events.time.max())
    later = replace(
        log,
        events=replace(
            log.events,
            type=np.where(
                (log.events.time > end - 20 * DAY) & (log.events.type == BOUGHT),
                1,
                log.events.type,
            ).astype(np.uint8),
        ),
    )
    again = served(later, TARGETS, CONFIG.fit)
    same = again.examples.now[again.rows] < middle + 14 * DAY
    assert early.sum() == same.sum() > 500
    assert np.array_equal(live.after_JK[early], again.after_JK[same])


def test_a_log_that_is_too_short_is_named() -> None:
    with pytest.raises(EvaluationError, match="live: "):
        run("live", "A shop", shop_log(users=20, days=10), TARGETS, CONFIG, lambda _: None)
