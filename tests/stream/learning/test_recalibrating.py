"""The champion is recalibrated from the log and from what a trainer keeps, and taken back."""

import asyncio
from pathlib import Path

import pytest

from models.populations import EVENT
from models.serving.recalibration import BetaMap, read_recalibration, versions_of
from models.serving.signing import generate_key
from models.training.recalibrate import Fit
from stream.config.learning_settings import RecalibrateSettings
from stream.config.secure_settings import ModelSettings
from stream.config.settings import ChurnSettings
from stream.config.targets import targets_of
from stream.errors import TrainerError
from stream.kafka.announce import read_announced
from stream.learning import recalibrating
from stream.learning.recalibrating import Recalibrating, recalibrate, take_back
from stream.learning.sources import FromKafka
from stream.learning.trainer import refresher_of, run_round
from stream.worker.reload import open_recalibration
from tests.conftest import Kafka
from tests.stream.kafka_tools import create_topics, produce, unique
from tests.stream.training_tools import settings_for

BUDGET = 2.0
LOOSE = RecalibrateSettings(min_labels=40, min_users=30, tolerance=5.0)


@pytest.mark.full
@pytest.mark.kafka
def test_the_champion_is_recalibrated_signed_announced_and_taken_back(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    topic = unique("events")
    servers = kafka.bootstrap_servers
    asyncio.run(create_topics(servers, topic, f"{topic}-erase"))
    asyncio.run(create_topics(servers, f"{topic}-models", cleanup_policy="compact"))
    asyncio.run(produce(servers, topic, shop))
    public = generate_key(tmp_path / "key")
    settings = settings_for(tmp_path / "models", kafka, topic).model_copy(
        update={
            "recalibrate": LOOSE,
            "churn": ChurnSettings(target_precision=0.3, alert_budget_per_day=BUDGET),
            "models": ModelSettings(signing_key=tmp_path / "key", trusted_keys=(public,)),
        }
    )
    with pytest.raises(TrainerError, match="no champion is announced"):
        recalibrate(settings, FromKafka(settings))

    source = FromKafka(settings)
    refresher = refresher_of(settings, source, kept=False)
    now = [0.0]
    loop = Recalibrating(settings, refresher, lambda: now[0])
    assert loop.after(published=False) is None, "nothing was read yet"
    done = run_round(settings, source, device="cpu", refresher=refresher)
    first = loop.after(published=True)
    assert first is not None
    assert {(f.target, f.population) for f in first.found.findings} == {
        (target, population)
        for target in ("purchase", "churn")
        for population in ("event", "timer")
    }
    assert loop.after(published=False) is None, "no week has passed"
    now[0] = (LOOSE.every_ms or 0) / 1000
    assert loop.after(published=False) is not None

    found = recalibrate(settings, FromKafka(settings)).found
    model = done.manifest.version
    assert found.model_version == model
    assert done.manifest.raise_at is not None
    for each in (first.found, found):
        assert each.raise_at is not None
        assert each.raise_at.precision == 0.3
        assert each.raise_at.budget is not None
        assert each.raise_at.budget.per_day == BUDGET
        assert each.raise_at.threshold is not None, each.raise_at
        assert each.raise_at.bound is not None
        assert each.raise_at.budget.expected is not None
        assert each.raise_at.budget.risk is not None, each.raise_at.budget.why
        assert each.raise_at.budget.expected <= BUDGET
    last = versions_of(settings.models_dir, model)[-1]
    assert last == found.version
    assert read_recalibration(settings.models_dir, model, last) == found
    announced = asyncio.run(read_announced(settings)).of("champion")[0]
    effect = announced.recalibration
    assert (None if effect is None else effect.version) == (
        found.version if found.changes else None
    )
    assert announced.recalibration is not None
    opened = open_recalibration(announced, announced.recalibration, targets_of(settings), settings)
    assert opened.raise_at == found.raise_at, "a worker has it as it was learnt"


@pytest.mark.full
@pytest.mark.kafka
def test_one_that_is_in_effect_is_taken_back_to_the_one_before(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop: list[tuple[bytes, bytes]]
) -> None:
    topic = unique("events")
    servers = kafka.bootstrap_servers
    asyncio.run(create_topics(servers, topic, f"{topic}-erase"))
    asyncio.run(create_topics(servers, f"{topic}-models", cleanup_policy="compact"))
    asyncio.run(produce(servers, topic, shop))
    settings = settings_for(tmp_path / "models", kafka, topic)
    model = run_round(settings, FromKafka(settings), device="cpu").manifest.version
    # A map that is kept whatever the labels of this small shop say.
    kept = Fit({EVENT: {"churn": BetaMap(1.0, 1.0, 0.5)}}, ())
    monkeypatch.setattr(recalibrating, "fit_maps", lambda *_: kept)
    one, two = (recalibrate(settings, FromKafka(settings)).found for _ in range(2))
    announced = asyncio.run(read_announced(settings)).of("champion")[0]
    assert announced.recalibration is not None
    assert announced.recalibration.version == two.version
    opened = open_recalibration(announced, announced.recalibration, targets_of(settings), settings)
    assert opened.version == two.version
    assert take_back(settings, None) == (model, one.version)
    assert take_back(settings, model) == (model, None)
    with pytest.raises(TrainerError, match="nothing to take back"):
        take_back(settings, model)
