"""A published prediction comes out of the log again, to the last digit, and is taken apart."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING

import msgspec
import pytest

from models.inputs.features import PROFILE_FEATURES
from models.money import AS_THEY_COME
from models.serving.artifact import script_bytes
from models.serving.rankings import Ranking, files_of
from models.serving.registry import Registry
from models.serving.scorer import Scorer, make_golden
from schemas.codec import decode_event, encode
from schemas.control import EraseUser
from schemas.outputs import NextItem
from stream.cli.main import main
from stream.config.settings import Settings
from stream.config.targets import targets_of
from stream.errors import ExplainError
from stream.kafka.topics import create_topics
from stream.operations.explain import Explanation, Parsed, _explain
from stream.operations.explain_picture import draw
from stream.operations.explain_text import explanation_lines, feature_words
from stream.operations.watch import duration, moment
from stream.pipeline.records import Row
from stream.testing import PipelineDriver
from tests.logs import (
    TARGETS,
    WAITING,
    disordered,
    duplicated,
    gru_manifest,
    random_gru,
    shop_log,
)
from tests.ranked import random_head
from tests.stream.kafka.test_topics import settings_for
from tests.stream.kafka_tools import produce

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

    from models.targets import Target
    from schemas.outputs import Prediction

VERSION = "gru-1"


def publish(folder: Path, seed: int = 1, targets: tuple[Target, ...] = TARGETS) -> None:
    network = random_gru(seed, targets)
    manifest = gru_manifest(network, VERSION, targets=targets)
    script = script_bytes(network)
    Registry(folder).publish(manifest, script, make_golden(script, manifest))


def worker(settings: Settings, swap_at: int) -> tuple[list[Row], list[Prediction]]:
    """What a worker of all users made of a log, with the model swapped in on the way."""
    scorer = Scorer.load(Registry(settings.models_dir).path(VERSION), "cpu")
    log = duplicated(disordered(shop_log(3, 320), 3, 900_000), 3, 0.05)
    records = [
        Row(n, event.event_time, event.user_id.encode(), encode(event))
        for n, event in enumerate(log)
    ]
    driver = PipelineDriver(Scorer.rhythm(targets_of(settings)), settings)
    driver.pipe_records(records[:swap_at], batch=31)
    driver.pipeline.replace_scorer(scorer)
    driver.pipe_records(records[swap_at:], batch=31)
    return records, [p for p in driver.predictions() if p.model_version == VERSION]


def local(tmp_path: Path) -> Settings:
    return Settings(
        models_dir=tmp_path,
        topics={"partitions": 1},
        worker={"clock": "event", "emit": "every", "device": "cpu"},
    )


def explained(
    settings: Settings, records: list[Row], prediction: Prediction, published: Prediction | None
) -> Explanation:
    """Of one prediction of a worker of these records, beside what was published."""
    asked, key = Parsed.of(prediction.prediction_id), prediction.user_id.encode()
    mine = [r for r in records[: asked.source.offset + 1] if r.key == key]
    return _explain(settings, prediction.prediction_id, asked, mine, published, AS_THEY_COME)


def test_predictions_are_reproduced_wherever_the_model_took_over(tmp_path: Path) -> None:
    publish(tmp_path)
    settings = local(tmp_path)
    records, told = worker(settings, swap_at=120)
    exact = []
    for prediction in told[::40]:
        found = explained(settings, records, prediction, prediction)
        exact.append(found.exact)
        assert found.reproduced == pytest.approx(found.published, abs=2e-6)
        churn = found.attributions["churn"]
        assert len(churn.events) == len(found.history["churn"]) == min(found.events, 32)
        assert [e.attribution for e in found.history["churn"]] == list(churn.events)
    assert len(exact) >= 4
    assert all(exact)


def test_predictions_at_timers_are_reproduced(tmp_path: Path) -> None:
    publish(tmp_path, targets=WAITING)
    settings = local(tmp_path)
    wanted = settings.worker.model_copy(update={"predict_at_timers": True})
    settings = settings.model_copy(update={"worker": wanted})
    records, told = worker(settings, swap_at=0)
    timers = [prediction for prediction in told if prediction.reason == "timer"]
    assert len(timers) > 5
    for prediction in timers[:: len(timers) // 5]:
        found = explained(settings, records, prediction, prediction)
        assert found.exact
        assert found.at == prediction.state_time
        away = found.at - max(event.event_time for event in found.history["churn"])
        assert found.profile["log_silence_hours"] == pytest.approx(math.log1p(away / 3_600_000))


@pytest.mark.full
def test_a_wait_is_reproduced_too_and_its_bins_are_not_taken_apart(tmp_path: Path) -> None:
    publish(tmp_path, targets=WAITING)
    settings = local(tmp_path)
    records, told = worker(settings, swap_at=0)
    prediction = told[-1]
    found = explained(settings, records, prediction, prediction)
    assert found.exact
    assert set(found.attributions) == set(found.history) == {"purchase", "churn"}
    assert found.published_wait_ms == found.reproduced_wait_ms == prediction.expected_wait_ms
    # By an hour: the ways that are tried may differ in the last bit, and so in a millisecond.
    wait = prediction.expected_wait_ms + 3_600_000
    other = msgspec.structs.replace(prediction, expected_wait_ms=wait)
    found = explained(settings, records, prediction, other)
    assert found.exact is False
    draw(found, tmp_path / "why.png")


def test_the_picture_and_the_json(tmp_path: Path) -> None:
    publish(tmp_path)
    settings = local(tmp_path)
    records, told = worker(settings, swap_at=0)
    found = explained(settings, records, told[-1], None)
    assert (found.published, found.exact) == (None, None)
    draw(found, tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len((tmp_path / "why.png").read_bytes()) > 20_000
    assert json.loads(msgspec.json.encode(found))["history"]["churn"][-1]["event_id"]


def test_the_words_tell_score_history_and_what_moved_it(tmp_path: Path) -> None:
    publish(tmp_path)
    settings = local(tmp_path)
    records, told = worker(settings, swap_at=0)
    prediction = told[-1]
    found = explained(settings, records, prediction, prediction)
    lines = list(explanation_lines(found))
    assert lines[0] == f"prediction {prediction.prediction_id}"
    assert f"user {prediction.user_id}, model {VERSION}" in lines[1]
    assert lines[2].startswith(f"history: {found.events} events; time since the first event")
    churn = prediction.targets["churn"]
    at = next(n for n, line in enumerate(lines) if line.startswith("churn: "))
    assert f"{churn.probability:.1%} within {duration(churn.horizon_ms)} (" in lines[at]
    strongest = max(found.attributions["churn"].profile.items(), key=lambda pair: abs(pair[1]))
    words = feature_words(strongest[0], found.profile[strongest[0]])
    assert lines[at + 2] == f"  {strongest[1]:+.4f} {words}"
    last = found.history["churn"][-1]
    assert any(last.event_id in line and moment(last.event_time) in line for line in lines)
    assert lines[-1].endswith("equal to the published numbers to the last digit")


def test_every_feature_has_words_and_a_value_in_its_unit() -> None:
    for name in PROFILE_FEATURES:
        assert name not in feature_words(name, 1.0)
    assert feature_words("log_orders", math.log1p(3)) == "orders 3"
    days = feature_words("log_silence_hours", math.log1p(48))
    assert days == "time since the last event 2.0d"
    assert feature_words("has_purchase", 1.0) == "has bought yes"


def test_what_cannot_be_explained_says_why(tmp_path: Path) -> None:
    for wrong in ("", "gru-1", "gru-1:topic:x:3", "gru-1:topic:0:-3", "gru-1:topic:0:3@x"):
        with pytest.raises(ExplainError, match="is no prediction id"):
            Parsed.of(wrong)
    assert Parsed.of("v:1:a.b:2:30").source.topic == "a.b"
    settings = local(tmp_path)
    asked = Parsed.of("gone-1:shop.events:0:0")
    with pytest.raises(ExplainError, match=r"its model is not at hand: .* no model 'gone-1'"):
        _explain(settings, "gone-1:shop.events:0:0", asked, [], None, AS_THEY_COME)


@pytest.mark.kafka
async def test_from_a_cluster_by_the_command(kafka, tmp_path: Path, capsys) -> None:
    publish(tmp_path / "models")
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    topics = settings.topics
    await create_topics(settings)
    same = local(tmp_path / "models").model_copy(update={"topics": topics})
    records, told = worker(same, swap_at=0)
    await produce(kafka.bootstrap_servers, topics.events, [(r.key, r.value) for r in records])
    await produce(
        kafka.bootstrap_servers, topics.propensity, [(p.user_id.encode(), encode(p)) for p in told]
    )
    prediction = told[60]
    config = tmp_path / "shop.toml"
    names = ("events", "propensity", "shadow", "erase")
    config.write_text(
        f'models_dir = "{tmp_path / "models"}"\n[topics]\npartitions = 1\n'
        + "".join(f'{n} = "{getattr(topics, n)}"\n' for n in names)
    )
    arguments = ["explain", prediction.prediction_id, "--device", "cpu", "--config", str(config)]
    arguments += ["--bootstrap-servers", kafka.bootstrap_servers]
    arguments += ["--json", str(tmp_path / "why.json"), "--picture", str(tmp_path / "why.png")]

    def run() -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code or 0

    assert await asyncio.to_thread(run) == 0
    why = json.loads((tmp_path / "why.json").read_text())
    assert why["exact"] is True
    assert why["published"]["churn"] == prediction.targets["churn"].probability
    assert (tmp_path / "why.png").exists()
    assert "churn: " in capsys.readouterr().out

    # Once the user is erased nothing is made again of what came before.
    user = prediction.user_id
    request = EraseUser(request_id="r", user_id=user, requested_at=1)
    await produce(kafka.bootstrap_servers, topics.erase, [(user.encode(), encode(request))])
    assert await asyncio.to_thread(run) == 1
    assert "was erased after it" in capsys.readouterr().err
    # A new life has a state of its own.
    second = [
        msgspec.structs.replace(decode_event(r.value), event_id=f"again-{r.offset}")
        for r in records
        if r.key == user.encode()
    ]
    asked = len(records) + len(second) - 1
    await produce(
        kafka.bootstrap_servers, topics.events, [(user.encode(), encode(e)) for e in second]
    )
    arguments[1] = f"{VERSION}:{topics.events}:0:{asked}"
    assert await asyncio.to_thread(run) == 0
    events = json.loads((tmp_path / "why.json").read_text())["events"]
    assert events == len(
        {decode_event(r.value).event_id for r in records if r.key == user.encode()}
    )


@pytest.mark.full
def test_what_comes_next_is_reproduced_too(tmp_path: Path) -> None:
    whats = ("category", "item")
    network = random_gru(1)
    recent = gru_manifest(network, VERSION).history_length
    ranked = {what: random_head(what, network.hidden_size, recent) for what in whats}
    rankings = tuple(Ranking(what) for what in whats)
    manifest = msgspec.structs.replace(gru_manifest(network, VERSION), rankings=rankings)
    script = script_bytes(network)
    golden = make_golden(script, manifest, ranked)
    Registry(tmp_path).publish(manifest, script, golden, documents=files_of(ranked))
    settings = local(tmp_path)
    three = settings.worker.model_copy(update={"rank_top": 3})
    records, told = worker(settings.model_copy(update={"worker": three}), swap_at=120)
    for prediction in told[5::100]:
        assert len(prediction.next_categories) == len(prediction.next_items) == 3
        # However many the settings of today tell.
        found = explained(settings, records, prediction, prediction)
        assert found.exact
        assert set(found.published_next) == {"category", "item"}
        assert found.published_next == found.reproduced_next
    other = [*prediction.next_items[:2], NextItem("item-0", 0.125)]
    changed = msgspec.structs.replace(prediction, next_items=other)
    assert explained(settings, records, prediction, changed).exact is False
    assert len(explained(settings, records, told[-1], None).reproduced_next["item"]) == 5
