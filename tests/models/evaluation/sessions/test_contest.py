"""The contest in a small simulated funnel, with fits too short to learn its order."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.split import CALIBRATION, VALIDATION
from models.evaluation.contest import ContestConfig
from models.evaluation.results import TaskResult
from models.evaluation.sessions.contest import SessionTask, run_session_task
from models.evaluation.sessions.funnel import Funnel, FunnelPlan, draw_funnel
from models.evaluation.sessions.plain_gru import PlainFit
from models.evaluation.sessions.points import SessionPoints, session_points
from models.evaluation.sessions.tasks import targets_of
from models.fitting.fit import FitConfig
from models.history import PURCHASE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop() -> Funnel:
    return draw_funnel(FunnelPlan(users=120, sessions=6))


@pytest.fixture(scope="module")
def points(shop: Funnel) -> SessionPoints:
    return session_points(shop.log, targets_of(("purchase",), ("session",)))


@pytest.fixture(scope="module")
def result(shop: Funnel, points: SessionPoints) -> TaskResult:
    truth = shop.truth[points.ordered.log.events.id[points.place].astype(int) - 1]
    (found,) = run_session_task(
        SessionTask("funnel", "Funnel", points, truth),
        ContestConfig(seeds=(0,), networks=("logistic", "gru")),
        lambda _: None,
        fit=FitConfig(epochs=1, windows=32),
        plain=PlainFit(epochs=2),
    )
    return found


def test_all_events_but_purchases_of_the_last_slice_are_evaluated(points: SessionPoints) -> None:
    kinds = points.ordered.log.events.type[points.place]
    later = points.examples.slice == VALIDATION
    assert set(points.evaluated) == set(np.flatnonzero(later & (kinds != PURCHASE)))
    assert len(points.evaluated) > 1000
    calibrating = points.at_events(points.examples.of_slice(CALIBRATION))
    assert calibrating.sum() == len(points.examples.of_slice(CALIBRATION))


def test_positions_count_from_the_begin_of_each_session(points: SessionPoints) -> None:
    starts = points.events.starts
    assert (points.position[starts] == 1).all()
    assert (points.position[starts[1:] - 1] == points.events.sizes[:-1]).all()


@pytest.mark.full
def test_every_model_is_evaluated_beside_the_truth(result: TaskResult) -> None:
    assert set(result.models) == {
        *("base_rate", "recency", "session_logistic", "session_boosting"),
        *("plain_gru", "logistic", "gru"),
    }
    truth = result.reference["truth"].mean("auroc")
    assert truth > 0.7
    for name in ("base_rate", "recency", "session_boosting", "gru"):
        assert 0.45 < result.models[name].mean("auroc") < truth
    assert result.models["base_rate"].mean("auroc") == 0.5


def test_notes_tell_differences_positions_and_latency(result: TaskResult) -> None:
    notes = "\n".join(result.notes)
    assert "less that of session_boosting: " in notes
    assert "less that of the true probability: -" in notes
    assert "By position: event 2-3: " in notes
    assert "Scoring time of gru by events of a micro-batch (median): 1: " in notes
    assert [part.name for part in result.slices][:2] == ["event 2-3", "event 4-7"]
