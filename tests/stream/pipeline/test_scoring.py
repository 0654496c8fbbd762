"""Scores that are not made yet: other partitions go on, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.serving.joining import LARGE
from models.serving.scorer import Scorer
from models.steps import F32, Steps
from stream.config.settings import Settings
from stream.pipeline.fallback import checked
from stream.pipeline.hidden import ScorerLike
from stream.pipeline.pipeline import Pipeline
from stream.testing import PipedRecord, PipelineDriver
from tests.logs import disordered, duplicated, gru_scorer, raw, shop_log
from tests.stream.overlapping import Overlapping

pytestmark = pytest.mark.slow

SIZE = 60
SETTINGS = Settings(
    worker={"clock": "event", "emit": "every"},
    churn={
        "tick_ms": 3_600_000,
        "prior_gap_ms": 86_400_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return gru_scorer()


def micro_batches(seed: int) -> list[list[PipedRecord]]:
    log = duplicated(disordered(shop_log(seed, 400), seed, 900_000), seed, 0.1)
    records = [PipedRecord(at, time, key, value) for at, (key, value, time) in enumerate(raw(log))]
    return [records[at : at + SIZE] for at in range(0, len(records), SIZE)]


def serial(scorer: ScorerLike, seed: int) -> PipelineDriver:
    driver = PipelineDriver(scorer, SETTINGS)
    for batch in micro_batches(seed):
        driver.pipeline.process(batch)
        driver.commit()
    return driver


def test_large_micro_batches_never_pause_on_the_cpu(scorer: Scorer) -> None:
    every = Settings(worker={"clock": "wall", "emit": "every"})
    driver = PipelineDriver(scorer, every)
    log = raw(shop_log(1, 2 * LARGE))
    records = [PipedRecord(at, time, key, value) for at, (key, value, time) in enumerate(log)]
    assert list(driver.pipeline.work(records[: LARGE + 1])) == []
    assert list(driver.pipeline.work(records[LARGE + 1 :])) == [None]


def in_turns(shared: ScorerLike) -> Iterator[list[PipelineDriver]]:
    """Three partitions, yielded whenever each has launched and at the end of each micro-batch."""
    drivers = [PipelineDriver(shared, SETTINGS) for _ in range(3)]
    for batches in zip(*(micro_batches(seed) for seed in range(3)), strict=False):
        turns = [
            driver.pipeline.work(batch) for driver, batch in zip(drivers, batches, strict=True)
        ]
        while turns:
            turns = [turn for turn in turns if next(turn, turn) is None]
            yield drivers
        for driver in drivers:
            driver.commit()
        yield drivers


def says_what_it_says_alone(scorer: Scorer, drivers: list[PipelineDriver]) -> None:
    for seed, driver in enumerate(drivers):
        alone = serial(scorer, seed)
        done = driver.pipeline.source_offset
        for topic, messages in driver.outputs.items():
            assert messages == alone.outputs[topic][: len(messages)]
        assert done >= SIZE * 7
        assert len(driver.predictions()) > 300


@pytest.mark.full
def test_partitions_that_take_turns_on_a_device_say_what_each_says_alone(scorer: Scorer) -> None:
    shared, most = Overlapping(scorer), 0
    for now in in_turns(shared):
        drivers, most = now, max(most, shared.under_way)
    assert most == 3, "each was under way while the others were formed"
    assert shared.under_way == 0
    says_what_it_says_alone(scorer, drivers)


def test_partitions_that_are_scored_together_say_what_each_says_alone(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def advance(own: Scorer, stored: F32, steps: Steps) -> F32:
        nonlocal calls
        calls += 1
        return _advance(own, stored, steps)

    _advance = Scorer.advance
    monkeypatch.setattr(Scorer, "advance", advance)
    *_, drivers = in_turns(checked(scorer))
    together, calls = calls, 0
    says_what_it_says_alone(scorer, drivers)
    assert 0 < together < calls / 2


def test_a_model_that_is_replaced_in_a_pause_finishes_what_it_began(scorer: Scorer) -> None:
    other = gru_scorer("gru-other", seed=9)
    driver = PipelineDriver(
        Overlapping(scorer), Settings(worker={"clock": "wall", "emit": "every"})
    )
    first, second = micro_batches(1)[:2]
    work = driver.pipeline.work(first)
    next(work)
    driver.pipeline.replace_scorer(Overlapping(other))
    assert list(work) == []
    driver.commit()
    begun = len(driver.predictions())
    driver.pipeline.process(second)
    driver.commit()
    versions = [prediction.model_version for prediction in driver.predictions()]
    assert set(versions[:begun]) == {scorer.version}
    assert set(versions[begun:]) == {other.version}
    assert 0 < begun < len(versions)


def test_a_pause_that_is_never_ended_leaves_what_is_stored_alone(scorer: Scorer) -> None:
    batches = micro_batches(2)
    driver = PipelineDriver(Overlapping(scorer), SETTINGS)
    driver.pipeline.process(batches[0])
    driver.commit()
    left: Pipeline = driver.pipeline
    work = left.work(batches[1])
    next(work)
    work.close()  # type: ignore[attr-defined]
    driver.restart()
    for batch in batches[1:]:
        driver.pipeline.process(batch)
        driver.commit()
    assert driver.outputs == serial(scorer, 2).outputs
