"""A model that fails: what is noticed, who takes over, and that no half batch stays."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from models.serving.scorer import Scorer
from stream.config.settings import Settings
from stream.errors import ScorerFailed
from stream.pipeline.fallback import RETRY_S, CheckedScorer, Lineup, checked
from stream.pipeline.hidden import ScorerLike
from stream.pipeline.rollout import Serving, Trials
from stream.testing import PipelineDriver
from tests.logs import TARGETS, disordered, duplicated, gru_scorer, shop_log
from tests.ranked import ranking_scorer
from tests.stream.overlapping import Overlapping

pytestmark = pytest.mark.slow

METHODS = {"encode": 2, "advance": 5, "probabilities": 5}
"""Each with about as many calls as a batch makes of it."""


def _raises(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("CUDA error: an illegal\nmemory access")


def _not_finite(right: np.ndarray) -> np.ndarray:
    wrong = right.copy()
    wrong.flat[-1:] = np.nan
    return wrong


FAILURES = {
    "raises": _raises,
    "not finite": _not_finite,
    "wrong shape": lambda right: right[..., :1] if right.shape[-1] > 1 else right[:0],
}


@dataclass
class Failing:
    """A scorer whose calls of one method fail by plan: an endless list of True (fail) or False."""

    scorer: ScorerLike
    method: str
    failure: str
    plan: Iterator[bool] = field(default_factory=lambda: itertools.repeat(True))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.scorer, name)
        if name != self.method:
            return found

        def call(*arrays: np.ndarray) -> np.ndarray:
            right = found(*arrays)
            return FAILURES[self.failure](right) if next(self.plan) else right

        return call


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return gru_scorer("good")


@pytest.fixture(scope="module")
def newer() -> Scorer:
    return gru_scorer("newer", 1)


def arguments(scorer: ScorerLike, method: str) -> tuple[np.ndarray, ...]:
    """What the pipeline asks, once users have states of another model."""
    driver = PipelineDriver(gru_scorer("other", 9))
    driver.pipe(shop_log(1, 40))
    calls: list[tuple[np.ndarray, ...]] = []

    class Spy(Failing):
        def __getattr__(self, name: str) -> Any:
            found = getattr(self.scorer, name)
            if name != method:
                return found
            return lambda *arrays: (calls.append(arrays), found(*arrays))[1]

    driver.pipeline.replace_scorer(Spy(scorer, method, ""))
    driver.pipe(shop_log(2, 40))
    return calls[-1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_wrong_answer_is_asked_for_again_and_then_refused(
    scorer: Scorer, method: str, failure: str
) -> None:
    arrays = arguments(scorer, method)
    right = getattr(scorer, method)(*arrays)
    once = checked(
        Failing(scorer, method, failure, itertools.chain([True], itertools.repeat(False)))
    )
    assert (getattr(once, method)(*arrays) == right).all()
    always = checked(Failing(scorer, method, failure))
    with pytest.raises(ScorerFailed, match=f"model good: {method} ") as refused:
        getattr(always, method)(*arrays)
    assert refused.value.version == "good"
    assert "\n" not in str(refused.value)


def _one_wrong(numbers: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return numbers[0], _not_finite(numbers[1])


def _lost(_: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    raise RuntimeError("CUDA error: device lost")


@pytest.mark.parametrize("answer", [_one_wrong, _lost])
def test_a_launch_that_fails_is_done_again_step_by_step(
    scorer: Scorer, answer: Callable[[Any], Any]
) -> None:
    stored, steps = arguments(scorer, "advance")
    (_, profile) = arguments(scorer, "probabilities")
    profile = np.resize(profile, (len(steps), profile.shape[1]))
    hidden = scorer.advance(stored, steps)
    once = checked(Overlapping(scorer, answer))
    found = once.launch(stored, steps, profile).fetch()
    assert np.array_equal(found[0], hidden)
    assert np.array_equal(found[1], scorer.probabilities(hidden, profile))
    always = checked(Overlapping(Failing(scorer, "probabilities", "not finite"), answer))
    launched = always.launch(stored, steps, profile)
    with pytest.raises(ScorerFailed, match="model good: probabilities returns numbers that are"):
        launched.fetch()


def test_an_empty_batch_is_no_failure(scorer: Scorer) -> None:
    driver = PipelineDriver(scorer)
    driver.pipe([])
    driver.pipe_raw([(b"user-1", b"{", 1)])
    assert len(driver.dead_letters()) == 1


def test_checking_twice_is_checking_once(scorer: Scorer) -> None:
    once = checked(scorer)
    assert checked(once) is once
    assert not once.stale


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(2))
def test_a_failure_in_the_middle_leaves_no_half_batch(
    scorer: Scorer, newer: Scorer, method: str, seed: int
) -> None:
    """Opened anew after each failure, the older model's scores are those of a run without one."""
    settings = Settings(
        worker={"clock": "event", "emit": "every"},
        churn={
            "tick_ms": 3_600_000,
            "prior_gap_ms": 86_400_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
    )
    log = duplicated(disordered(shop_log(seed, 600), seed, 900_000), seed, 0.1)
    size = 50
    batches = [log[i : i + size] for i in range(0, len(log), size)]
    reference = PipelineDriver(scorer, settings)
    reference.pipe(log, size)

    driver = PipelineDriver(scorer, settings)
    driver.pipe(batches[0])
    failed = 0
    for number, batch in enumerate(batches[1:]):
        # The k-th call of this batch fails, also when repeated: k wanders through the batch.
        place = number % METHODS[method]
        plan = itertools.chain(itertools.repeat(False, place), itertools.repeat(True))
        driver.pipeline.replace_scorer(Failing(newer, method, "not finite", plan))
        try:
            driver.pipe(batch)
        except ScorerFailed:
            failed += 1
            driver.restart()
            driver.pipeline.replace_scorer(CheckedScorer(scorer, stale=True))
            driver.pipe(batch)
    assert failed > len(batches) // 4
    assert driver.histories() == reference.histories()
    predictions, expected = driver.predictions(), reference.predictions()
    assert [p.source for p in predictions] == [p.source for p in expected]
    assert {p.model_version for p in predictions if p.stale} == {"good"}
    assert {p.model_version for p in predictions if not p.stale} <= {"good", "newer"}
    for mine, theirs in zip(predictions, expected, strict=True):
        if mine.stale:
            for name, score in theirs.targets.items():
                assert mine.targets[name].probability == pytest.approx(score.probability, abs=1e-6)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_lineup_is_newest_before_rhythm_and_back(scorer: Scorer, newer: Scorer) -> None:
    clock = Clock()
    lineup = Lineup(scorer, lambda: Scorer.rhythm(TARGETS), clock)
    assert lineup.serving is scorer
    lineup.promote(newer)
    assert lineup.serving is lineup.champion is newer
    assert lineup.set_aside("newer")
    assert (lineup.serving.version, lineup.serving.stale) == ("good", True)
    assert lineup.champion is newer
    assert lineup.set_aside("newer"), "another partition saw it fail too"
    assert lineup.serving.version == "good"
    assert lineup.set_aside("good")
    assert lineup.serving.version == "rhythm-1"
    assert not lineup.set_aside("rhythm-1")
    clock.now = RETRY_S - 1
    assert not lineup.reinstate()
    clock.now = RETRY_S
    assert lineup.reinstate()
    assert lineup.serving is newer
    assert not lineup.reinstate()
    assert lineup.set_aside("newer")
    clock.now += RETRY_S
    assert not lineup.reinstate(), "the second pause is longer"
    clock.now += RETRY_S
    assert lineup.reinstate()


def test_a_new_champion_ends_the_pause_and_the_good_one_stays_behind_it(
    scorer: Scorer, newer: Scorer
) -> None:
    lineup = Lineup(scorer, None, Clock())
    lineup.promote(newer)
    assert lineup.set_aside("newer")
    third = gru_scorer("third", 3)
    lineup.promote(third)
    assert lineup.serving is third
    assert not lineup.reinstate()
    assert lineup.set_aside("third")
    assert lineup.serving.version == "good", "the one that failed is not the last good one"
    assert not lineup.set_aside("good")


def test_a_model_that_is_swapped_is_gone_at_once() -> None:
    """Not when the collector comes, which in a worker is rarely."""
    driver = PipelineDriver(checked(gru_scorer("old")))
    driver.pipe(shop_log(1, 40))
    old = weakref.ref(driver.pipeline.scorer)
    gc.disable()
    try:
        driver._scorer = gru_scorer("new", 1)
        driver.pipeline.replace_scorer(driver._scorer)
        driver.restart()
        assert driver.pipeline.scorer.version == "new"
        assert old() is None
    finally:
        gc.enable()


def _renamed(right: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return right[0][:, 1:], right[1]


def _missing(right: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return right[0][:0], right[1][:0]


RANK_FAILURES: dict[str, Callable[[Any], Any]] = {
    "raises RuntimeError": _raises,
    "numbers that are not finite": lambda right: (right[0], _not_finite(right[1])),
    "instead of": _renamed,
    "an array of shape": _missing,
}


@pytest.mark.parametrize("failure", RANK_FAILURES)
def test_a_ranking_that_fails_is_asked_for_again_and_then_fails_the_model(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    ranking = ranking_scorer("ranks")
    plan = iter([True, *itertools.repeat(False, 99)])

    def rank(*arguments: Any) -> Any:
        right = Scorer.rank(ranking, *arguments)
        return RANK_FAILURES[failure](right) if next(plan) else right

    monkeypatch.setattr(ranking, "rank", rank)
    driver = PipelineDriver(ranking)
    driver.pipe(shop_log(1, 30))
    found = driver.predictions()
    assert all(len(one.next_items) == len(one.next_categories) == 5 for one in found)
    plan = itertools.repeat(True)
    with pytest.raises(ScorerFailed, match="model ranks: rank ") as refused:
        driver.pipe(shop_log(2, 30))
    assert failure in str(refused.value)


def test_a_shadow_whose_ranking_fails_is_dropped(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = ranking_scorer("shadow")
    monkeypatch.setattr(shadow, "rank", lambda *_: _raises(np.zeros(1)))
    driver = PipelineDriver(scorer)
    driver.pipeline.replace_scorer(Serving(scorer, Trials(shadow=shadow)))
    driver.pipe(shop_log(1, 30))
    assert len(driver.predictions()) > 3
    assert driver.settings.topics.shadow not in driver.outputs
