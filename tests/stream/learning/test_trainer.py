"""The trainer against a real broker: what it reads, publishes, announces and refuses."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.encoding import hash64
from models.errors import DatasetError
from models.fitting.fit import Progress
from models.inputs.features import FEATURE_VERSION
from models.serving.artifact import read_artifact, read_gated
from models.serving.registry import Registry
from models.serving.scorer import Scorer
from schemas.codec import decode, decode_event, encode
from schemas.control import EraseUser, ModelPublished
from schemas.errors import IntentStreamError
from schemas.events import View
from stream.config.durations import DAY_MS, HOUR_MS
from stream.config.loading import load_settings
from stream.errors import NothingNew, TrainerError
from stream.kafka.announce import announcement
from stream.learning.sources import FromFiles, FromKafka
from stream.learning.trainer import (
    Round,
    champion_of,
    refresher_of,
    rounds,
    run_round,
)
from tests.conftest import Kafka
from tests.models.shop import DAY, START, shop_log
from tests.models.training.test_cold_start import poisson_shop
from tests.stream.kafka_tools import create_topics, produce, unique
from tests.stream.training_tools import Cli, Nowhere, first_record, messages, settings_for

pytestmark = pytest.mark.slow


@pytest.mark.full
@pytest.mark.kafka
def test_a_round_publishes_and_announces(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    topic = unique("events")
    servers = kafka.bootstrap_servers
    asyncio.run(create_topics(servers, topic, f"{topic}-models", f"{topic}-erase"))
    asyncio.run(produce(servers, topic, shop))
    settings = settings_for(tmp_path, kafka, topic)
    done = run_round(settings, FromKafka(settings), device="cpu")
    assert done.announced
    message = asyncio.run(first_record(servers, f"{topic}-models"))
    assert message.key == done.manifest.version.encode()
    published = decode(ModelPublished, message.value)
    assert published == announcement(done.manifest)
    assert published.rollout == "champion"
    folder = settings.models_dir / published.uri
    scorer = Scorer.load(folder, "cpu", expected_digest=published.digest)
    assert [target.horizon_ms for target in scorer.targets] == [3 * DAY_MS, 10 * DAY_MS]


def test_what_cannot_be_announced_stays_published(tmp_path: Path, jsonl: Path) -> None:
    settings = settings_for(tmp_path / "models", Nowhere())
    with pytest.raises(TrainerError, match=r"is not announced.*models promote"):
        run_round(settings, FromFiles((jsonl,)), device="cpu")
    assert len(Registry(settings.models_dir).versions()) == 1


def test_until_leaves_out_what_came_later(tmp_path: Path, jsonl: Path) -> None:
    settings = settings_for(tmp_path / "models")
    log = shop_log(users=250, days=80)
    cut = int(log.events.time.max()) - 10 * DAY
    done = run_round(settings, FromFiles((jsonl,)), until=cut, device="cpu", announced=False)
    assert done.manifest.window.last_event <= cut
    assert done.manifest.window.events == int((log.events.time <= cut).sum())
    assert done.manifest.cleaning.read == done.manifest.window.events


def test_nothing_is_published_when_training_is_refused(tmp_path: Path, jsonl: Path) -> None:
    settings = settings_for(tmp_path / "models")
    with pytest.raises(DatasetError, match="event log is empty"):
        run_round(settings, FromFiles((jsonl,)), until=1, device="cpu")
    assert not settings.models_dir.exists()


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 12 days, where a labelled model of purchases within 3 needs more than 12."""
    path = tmp_path_factory.mktemp("young") / "young.jsonl"
    early = [value for _, value in messages(poisson_shop(1000).until(START + 12 * DAY))]
    path.write_bytes(b"\n".join(early))
    return path


class TestBeforeLabels:
    @pytest.mark.parametrize("going_on", [False, True])
    def test_purchase_process_is_published_as_champion(
        self, tmp_path: Path, young: Path, *, going_on: bool
    ) -> None:
        settings, source = settings_for(tmp_path / "models"), FromFiles((young,))
        refresher = refresher_of(settings, source, kept=True) if going_on else None
        done = run_round(settings, source, device="cpu", announced=False, refresher=refresher)
        assert done.manifest.cold_start
        assert "because the log spans" in done.manifest.choice
        scorer = Scorer.load(done.folder, "cpu")
        assert [target.name for target in scorer.targets] == ["purchase", "churn"]
        assert scorer.cold_start

    def test_it_is_replaced_by_a_later_one_and_by_no_trained_one(
        self, tmp_path: Path, young: Path, jsonl: Path
    ) -> None:
        settings = settings_for(tmp_path / "models")
        source = FromFiles((young,))
        first, second = (
            run_round(settings, source, until=until, device="cpu", announced=False).manifest
            for until in (START + 11 * DAY, None)
        )
        assert second.cold_start
        assert second.version != first.version
        labelled = run_round(settings, FromFiles((jsonl,)), device="cpu", announced=False).manifest
        assert not labelled.cold_start
        with pytest.raises(DatasetError, match="the log spans"):
            run_round(settings, source, device="cpu", announced=False)

    def test_none_where_the_settings_want_none(self, tmp_path: Path, young: Path) -> None:
        settings = settings_for(tmp_path / "models")
        train = settings.train.model_copy(update={"cold_start": False})
        settings = settings.model_copy(update={"train": train})
        with pytest.raises(DatasetError, match="the log spans"):
            run_round(settings, FromFiles((young,)), device="cpu", announced=False)
        assert not settings.models_dir.exists()


class TestRounds:
    def test_one_round_raises_its_error(self) -> None:
        def fail() -> Round:
            raise DatasetError("too little")

        with pytest.raises(DatasetError, match="too little"):
            list(rounds(None, fail, lambda _: True))

    def test_repeated_rounds_go_on_after_an_error_and_keep_their_interval(self) -> None:
        waits: list[float] = []
        calls = iter(range(9))

        def sometimes() -> Round:
            if next(calls) % 2:
                raise DatasetError("too little")
            return Round(None, Path(), announced=False, seconds=0)  # type: ignore[arg-type]

        def wait(seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) == 4

        outcomes = list(rounds(HOUR_MS, sometimes, wait))
        assert [isinstance(o, IntentStreamError) for o in outcomes] == [False, True, False, True]
        assert all(3590 < seconds <= 3600 for seconds in waits)


RETAIL = Path(__file__).resolve().parents[3] / "../shared/data/online_retail_uci.parquet"


@pytest.mark.full
@pytest.mark.skipif(not RETAIL.is_file(), reason=f"no {RETAIL.name} in ../shared/data")
def test_real_purchases_are_told_better_than_by_recency(tmp_path: Path) -> None:
    horizons = {"purchase_horizon_ms": 7 * DAY_MS, "churn_horizon_ms": 30 * DAY_MS}
    overrides = {"models_dir": tmp_path / "models", "data_dir": tmp_path, "train": horizons}
    settings = load_settings(overrides=overrides)
    before_july = 1_309_478_400_000
    source = FromFiles((RETAIL,), "online-retail")
    done = run_round(settings, source, until=before_july, device="cpu", announced=False)
    figures, recency = done.manifest.metrics, done.manifest.baselines["recency"]
    assert done.manifest.window.users > 2500
    for target, auc in (("purchase", 0.67), ("churn", 0.7)):
        assert figures[f"{target}.roc_auc"] > max(auc, recency[f"{target}.roc_auc"] + 0.1)
        assert figures[f"{target}.log_loss"] < recency[f"{target}.log_loss"]
        assert figures[f"{target}.ece"] < 0.06


class TestRefresh:
    def test_a_refresh_reads_and_learns_what_is_new(
        self, tmp_path: Path, shop: list[tuple[bytes, bytes]]
    ) -> None:
        """Two processes: the second goes on from the file of the first and its model."""
        settings = settings_for(tmp_path / "models")
        early, late = tmp_path / "early.jsonl", tmp_path / "late.jsonl"
        cut = len(shop) * 4 // 5
        early.write_bytes(b"\n".join(value for _, value in shop[:cut]))
        late.write_bytes(b"\n".join(value for _, value in shop[cut:]))
        news: list[Progress] = []

        def refreshed(path: Path) -> Round:
            source = FromFiles((path,))
            return run_round(
                settings,
                source,
                device="cpu",
                announced=False,
                report=news.append,
                refresher=refresher_of(settings, source, kept=True),
            )

        first = refreshed(early).manifest
        begun = len(news)
        second = refreshed(late).manifest
        assert second.architecture == first.architecture
        assert second.version != first.version
        assert second.window.last_event > first.window.last_event
        assert second.window.events == pytest.approx(len(shop), rel=0.02)
        if second.architecture != "blend":
            # Once for the gate, and once more for what is served.
            assert 0 < len(news) - begun <= 2 * settings.train.refresh_epochs
        for manifest in (first, second):
            assert manifest.served is not None
            assert manifest.served.last > manifest.gated.last
        registry = Registry(settings.models_dir)
        folder = registry.path(second.version)
        gated = read_gated(read_artifact(folder, feature_version=FEATURE_VERSION))
        compared = champion_of(settings)
        assert compared is not None
        profile = np.zeros((1, len(second.profile_features)), np.float32)
        hidden = np.zeros((1, second.hidden_size), np.float32)
        assert np.array_equal(
            compared.probabilities(hidden, profile),
            Scorer.of_artifact(gated, "cpu").probabilities(hidden, profile),
        )
        assert not np.array_equal(
            compared.probabilities(hidden, profile),
            Scorer.load(folder, "cpu").probabilities(hidden, profile),
        )
        assert (settings.data_dir / "training.state").is_file()
        assert Registry(settings.models_dir).versions() == sorted([first.version, second.version])

    @pytest.mark.full
    @pytest.mark.parametrize("kind", ["nothing", "duplicates", "without points"])
    def test_nothing_new_publishes_nothing(
        self, tmp_path: Path, shop: list[tuple[bytes, bytes]], kind: str, cli: Cli
    ) -> None:
        log, news = tmp_path / "log.jsonl", tmp_path / "news.jsonl"
        lines = [value for _, value in shop]
        log.write_bytes(b"\n".join(lines))
        last = decode_event(lines[-1])
        stranger = View(event_id="new", user_id="nobody", event_time=last.event_time + 1)
        text = {"nothing": [], "duplicates": lines[-500:], "without points": [encode(stranger)]}
        news.write_bytes(b"\n".join(text[kind]))
        config = tmp_path / "settings.toml"
        config.write_text(
            "[train]\nepochs = 1\nmin_windows = 50\narchitecture = 'logistic'\n"
            "purchase_horizon_ms = '3d'\nchurn_horizon_ms = '10d'\n"
        )
        models = tmp_path / "models"
        options = ("--refresh", "--no-announce", "--config", str(config))
        places = ("--data-dir", str(tmp_path / "data"), "--models-dir", str(models))
        cli("train", "--from", str(log), *options, *places)
        (first,) = Registry(models).versions()

        for _ in range(2):
            out, _ = cli("train", "--from", str(news), *options, *places)
            assert out == f"nothing new to learn from since model {first}: nothing is published\n"
            assert Registry(models).versions() == [first]

    @pytest.mark.full
    def test_rounds_without_news_go_on(self, tmp_path: Path, jsonl: Path) -> None:
        settings = settings_for(tmp_path / "models")
        settings = settings.model_copy(
            update={"train": settings.train.model_copy(update={"full_every": 1})}
        )
        source = FromFiles((jsonl,))
        refresher = refresher_of(settings, source, kept=False)

        def once() -> Round:
            return run_round(settings, source, device="cpu", announced=False, refresher=refresher)

        waits = iter([False, False, True])
        first, *others = rounds(HOUR_MS, once, lambda _: next(waits))
        assert isinstance(first, Round)
        assert [type(each) for each in others] == [NothingNew, NothingNew]
        # Where the model is gone one is published again.
        shutil.rmtree(first.folder)
        assert once().folder.is_dir()

    def test_a_damaged_state_is_named(self, tmp_path: Path, jsonl: Path, cli: Cli) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "training.state").write_bytes(b"?")
        arguments = ("train", "--from", str(jsonl), "--refresh", "--no-announce")
        places = ("--data-dir", str(data), "--models-dir", str(tmp_path / "models"))
        _, err = cli(*arguments, *places, code=1)
        assert "training.state is no file of the kind" in err
        assert "begin anew" in err
        assert not (tmp_path / "models").exists()

    @pytest.mark.full
    @pytest.mark.kafka
    def test_a_topic_is_read_once(
        self, kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
    ) -> None:
        topic = unique("events")
        servers = kafka.bootstrap_servers
        asyncio.run(create_topics(servers, topic, f"{topic}-models", f"{topic}-erase"))
        cut = len(shop) * 4 // 5
        asyncio.run(produce(servers, topic, shop[:cut]))
        settings = settings_for(tmp_path / "models", kafka, topic)
        source = FromKafka(settings)
        refresher = refresher_of(settings, source, kept=True)
        done = [run_round(settings, source, device="cpu", announced=False, refresher=refresher)]
        asyncio.run(produce(servers, topic, shop[cut:]))
        asyncio.run(produce(servers, f"{topic}-erase", [erasure(shop[0][0])]))
        seen: list[tuple[int, int]] = []
        other = FromKafka(settings)
        again = refresher_of(settings, other, kept=True)
        done.append(
            run_round(
                settings,
                other,
                device="cpu",
                announced=False,
                count=lambda *told: seen.append(told),
                refresher=again,
            )
        )
        assert seen[-1] == (len(shop) - cut, len(shop) - cut)
        assert done[1].manifest.window.events > done[0].manifest.window.events
        gone = hash64(shop[0][0].decode())
        assert gone in refresher._state._users
        assert gone not in again._state._users


def erasure(user: bytes) -> tuple[bytes, bytes]:
    request = EraseUser(user_id=user.decode(), request_id="r1", requested_at=1)
    return user, encode(request)
