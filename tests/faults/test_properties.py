"""Whatever log is drawn: the driver, in any batches and with any restarts, and a real worker come
to what plain Python says."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from models.serving.recalibration import write_recalibration
from models.serving.scorer import Scorer
from schemas.control import RecalibrationPublished
from schemas.outputs import ChurnAlert, Prediction
from stream.config.settings import Settings
from stream.kafka.announce import announce_recalibration, read_announced
from stream.testing import PipelineDriver
from tests.e2e.oracle import Swap, judge
from tests.e2e.shop import publish, put_raw
from tests.e2e.world import World
from tests.faults.conftest import SHORT_SEED
from tests.faults.ledger import Scale
from tests.faults.traffic import wait_for_log
from tests.faults.troubled import Sent, judged_plainly, troubled_log
from tests.logs import DAY, START, gru_scorer, mapped
from tests.patience import PATIENCE_S
from tests.told import told

FULL = os.environ.get("FAULTS") == "full"
CHURN = {
    "tick_ms": 3_600_000,
    "prior_gap_ms": DAY,
    "cooldown_ms": DAY,
    "escalate_after_ms": DAY,
    "raise_at": 0.6,
    "raise_untrained": True,
    "escalate_at": 0.7,
    "min_orders": 1,
}
MODELS = (gru_scorer("gru-a", 1), gru_scorer("gru-b", 2))
LATER = (MODELS[1], mapped(MODELS[0])[0])
"""What may come after the first model: another, or a recalibration of it."""

drawn = settings(
    max_examples=1500 if FULL else 40,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
repeatable = seed(int(os.environ.get("FAULT_SEED", SHORT_SEED)))
randoms = st.randoms(use_true_random=False)
sizes = st.integers(1, 120)


def shop(**changes: object) -> Settings:
    state = {"ring": 8, "ttl_ms": 0, **changes}
    return Settings(worker={"clock": "event", "emit": "every"}, state=state, churn=CHURN)


def piped(
    log: list[Sent], rules: Settings, rng: random.Random | None, swaps: dict[int, Scorer]
) -> PipelineDriver:
    """Run a log through a driver: record by record, or in batches and with restarts as `rng` says;
    the model is changed before the records that `swaps` names."""
    driver = PipelineDriver(MODELS[0], rules)
    at = 0
    while at < len(log):
        if at in swaps:
            driver._scorer = swaps[at]
            driver.pipeline.replace_scorer(swaps[at])
        end = at + (rng.choice((1, 2, 7, 30)) if rng else 1)
        end = min([end, len(log), *(s for s in swaps if s > at)])
        driver.pipe_raw([(sent.key, sent.value, START) for sent in log[at:end]])
        at = end
        if rng and not rng.randrange(5):
            driver.restart()
    return driver


def assert_as_plain_python_says(driver: PipelineDriver, log: list[Sent]) -> None:
    plain = judged_plainly(log, driver.settings.state)
    counters = driver.pipeline.counters
    assert counters.consumed == len(log)
    for name in ("accepted", "duplicate", "late", "invalid"):
        assert getattr(counters, name) == plain.totals[name], name
    want = {user: history.aggregates() for user, history in plain.users.items()}
    assert {user: told(record) for user, record in driver.records().items()} == want
    assert [p.source.offset for p in driver.predictions()] == plain.accepted
    assert len(driver.late()) == plain.totals["late"]
    assert len(driver.dead_letters()) == plain.totals["invalid"]


def alert_key(alert: ChurnAlert) -> tuple[object, ...]:
    return alert.user_id, alert.event_time, alert.state, alert.alert_id, alert.episode


@repeatable
@drawn
@given(randoms, sizes)
def test_any_log_in_any_batches_ends_as_the_oracles_say(rng: random.Random, count: int) -> None:
    log = troubled_log(rng, count)
    swaps = {rng.randrange(count): rng.choice(LATER)} if rng.randrange(2) else {}
    driver = piped(log, shop(), rng, swaps)
    assert_as_plain_python_says(driver, log)
    serial = piped(log, shop(), None, swaps)
    assert driver.histories() == serial.histories()
    for mine, reference in zip(driver.predictions(), serial.predictions(), strict=True):
        assert mine.prediction_id == reference.prediction_id
        for name, score in reference.targets.items():
            assert mine.targets[name].probability == pytest.approx(score.probability, abs=1e-6)
    alerts = sorted(map(alert_key, driver.alerts()))
    assert alerts == sorted(map(alert_key, serial.alerts()))
    assert len({alert[3] for alert in alerts}) == len(alerts)


@repeatable
@drawn
@given(randoms, sizes)
def test_a_user_silent_for_longer_than_the_time_to_live_starts_anew(
    rng: random.Random, count: int
) -> None:
    log = troubled_log(rng, count, users=1, silence=90 * DAY)
    rules = shop(ttl_ms=60 * DAY)
    driver = piped(log, rules, rng, {})
    assert_as_plain_python_says(driver, log)


def recalibrate(real: World, scorer: Scorer) -> Scorer:
    """Publish and announce a recalibration of the champion; the model with it."""
    announced = asyncio.run(read_announced(real.settings)).of("champion")[0]
    bent, found = mapped(scorer)
    found = msgspec.structs.replace(found, model_digest=announced.digest)
    digest, _ = write_recalibration(real.settings.models_dir, found, None)
    told = RecalibrationPublished(version=found.version, digest=digest)
    asyncio.run(announce_recalibration(real.settings, announced, told))
    return bent


@pytest.mark.kafka
def test_the_same_logs_through_a_real_worker(
    world: Callable[..., World], scale: Scale, rng: random.Random
) -> None:
    """Killed twice, with another model from the middle on, and then a recalibration of it."""
    for _ in range(scale(1, 6)):
        log = troubled_log(rng, scale(500, 2000), users=12)
        records = [(sent.key, sent.value) for sent in log]
        real = world(
            worker={"clock": "event", "emit": "every", "batch_size": 32, "commit_interval_ms": 10},
            state={"ring": 8, "ttl_ms": 0},
            churn=CHURN,
        )
        first = publish(real, 1, "gru-a")
        middle = rng.randrange(len(log) // 2, len(log))
        put_raw(real, records[:middle])
        worker = real.start_worker(INTENTSTREAM_FAULT=f"after_commit:{rng.randrange(2, 4)}:kill")
        assert worker.process.wait(PATIENCE_S) == -signal.SIGKILL, worker.said()[-3000:]
        worker = real.start_worker()
        real.wait_committed(middle)
        swapped_at = real.committed_offsets()
        second = publish(real, 2, "gru-b")
        wait_for_log(worker, "before=gru-a model=gru-b")  # loaded is not yet in use
        later = rng.randrange(middle, len(log))
        put_raw(real, records[middle:later])
        real.wait_committed(later)
        mapped_at = real.committed_offsets()
        bent = recalibrate(real, second)
        wait_for_log(worker, "before=gru-b model=gru-b recalibration=map-1")
        worker.stop()
        # Killed again under the recalibration: a restart takes it from its announcement.
        worker = real.start_worker(INTENTSTREAM_FAULT="after_commit:1:kill")
        put_raw(real, records[later:])
        if later < len(log):
            assert worker.process.wait(PATIENCE_S) == -signal.SIGKILL, worker.said()[-3000:]
            worker = real.start_worker()
        real.wait_committed(len(log))
        worker.stop()
        swaps = (Swap(swapped_at, second), Swap(mapped_at, bent))
        verdict, _ = judge(real, first, swaps=swaps)
        assert (verdict.lost, verdict.duplicated, verdict.wrong) == (0, 0, []), verdict
        scored = real.read(real.settings.topics.propensity, Prediction)
        assert {p.model_version for p in scored} == {"gru-a", "gru-b"}
        if later < len(log):
            assert {p.recalibration for p in scored} == {msgspec.UNSET, "map-1"}
        plain = judged_plainly(log, real.settings.state)
        assert len(scored) == plain.totals["accepted"]
        assert len(real.raw(real.settings.topics.dead_letter)) == plain.totals["invalid"]
