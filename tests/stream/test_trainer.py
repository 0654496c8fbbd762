"""The trainer against a real broker: what it reads, publishes, announces and refuses."""

import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from models.encoding import hash64
from models.errors import DatasetError
from models.eventlog import EventLog
from models.fit import Progress
from models.history import Events
from models.registry import Registry
from models.scorer import Scorer
from models.spool import Spool
from schemas.codec import decode, encode
from schemas.control import EraseUser, ModelPublished
from schemas.errors import IntentStreamError
from schemas.events import Purchase, View
from stream.announce import announcement
from stream.cli.main import main
from stream.durations import DAY_MS, HOUR_MS
from stream.errors import TopicLayoutError, TrainerError
from stream.learning_settings import TrainSettings
from stream.logreader import KafkaLog, read_files
from stream.settings import Settings, load_settings
from stream.sources import FromFiles, FromKafka
from stream.targets import targets_of
from stream.trainer import Round, fit_of, refresher_of, rounds, run_round
from tests.conftest import Kafka
from tests.models.shop import DAY, PURCHASE, shop_log
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, produce, unique

HORIZONS = {
    "purchase_horizon_ms": 3 * DAY_MS,
    "churn_horizon_ms": 10 * DAY_MS,
    "epochs": 2,
    "min_windows": 50,
}


def messages(log: EventLog) -> list[tuple[bytes, bytes]]:
    found = []
    for place, user in enumerate(log.users.tolist()):
        kind = Purchase if log.events.type[place] == PURCHASE else View
        event = kind(
            event_id=f"e{place}",
            user_id=f"u{user}",
            event_time=int(log.events.time[place]),
            item_id=f"i{log.events.item[place]}",
        )
        found.append((event.user_id.encode(), encode(event)))
    return found


@pytest.fixture(scope="module")
def shop() -> list[tuple[bytes, bytes]]:
    return messages(shop_log(users=250, days=80))


class Nowhere:
    """A cluster that does not answer."""

    bootstrap_servers = "127.0.0.1:1"


def settings_for(folder: Path, kafka: Kafka | Nowhere | None = None, topic: str = "t") -> Settings:
    overrides = {
        "models_dir": folder,
        "data_dir": folder.parent / "data",
        "train": HORIZONS,
        "topics": {"events": topic, "models": f"{topic}-models", "erase": f"{topic}-erase"},
        "worker": {"check_partitioner": False},
    }
    if kafka is not None:
        overrides["kafka"] = {"bootstrap_servers": kafka.bootstrap_servers}
    return load_settings(overrides=overrides)


def test_the_settings_say_what_is_predicted_and_what_counts(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    assert [target.name for target in targets_of(plain)] == ["purchase", "churn"]
    assert fit_of(plain).task_weights == ()
    train = {"cart_horizon_ms": 2 * DAY_MS, "task_weights": {"churn": 2.0}}
    wished = plain.model_copy(update={"train": TrainSettings(**train)})
    assert [target.name for target in targets_of(wished)] == ["purchase", "churn", "cart"]
    assert targets_of(wished)[2].horizon_ms == 2 * DAY_MS
    assert fit_of(wished).task_weights == (1.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="greater than 0"):
        TrainSettings(task_weights={"churn": 0.0})


def test_a_wait_is_learnt_in_bins_where_the_settings_have_edges(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    assert fit_of(plain).questions == ()
    train = {"wait_edges_ms": ["12h", "2d", 7 * DAY_MS], "task_weights": {"wait": 3.0}}
    wished = plain.model_copy(update={"train": TrainSettings(**train)})
    *shop, first, second, third = targets_of(wished)
    assert [target.name for target in shop] == ["purchase", "churn"]
    bins = [(bin_.after_ms, bin_.horizon_ms) for bin_ in (first, second, third)]
    assert bins == [(0, DAY_MS // 2), (DAY_MS // 2, 2 * DAY_MS), (2 * DAY_MS, 7 * DAY_MS)]
    assert fit_of(wished).questions == ("purchase", "churn", "wait", "wait", "wait")
    assert fit_of(wished).task_weights == (1.0, 1.0, 3.0, 3.0, 3.0)
    for wrong in (["2d", "1d"], ["0s", "1d"], ["1d", "1d"]):
        with pytest.raises(ValueError, match="ascending times above 0"):
            TrainSettings(wait_edges_ms=wrong)
    with pytest.raises(ValueError, match="at most 32"):
        TrainSettings(wait_edges_ms=range(1, 34))


def test_a_spend_is_learnt_where_the_settings_have_a_bound(tmp_path: Path) -> None:
    plain = settings_for(tmp_path / "models")
    train = {"spend_cap": 500, "purchase_horizon_ms": "3d", "task_weights": {"spend": 0.5}}
    wished = plain.model_copy(update={"train": TrainSettings(**train)})
    spend = targets_of(wished)[-1]
    assert (spend.name, spend.kind, spend.most) == ("spend", "amount", 500)
    assert spend.horizon_ms == 3 * DAY_MS
    assert fit_of(wished).task_weights == (1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match="greater than 0"):
        TrainSettings(spend_cap=0)


@pytest.fixture
def jsonl(tmp_path: Path, shop: list[tuple[bytes, bytes]]) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(value for _, value in shop))
    return path


async def transaction(kafka: Kafka, topic: str, rows: list[tuple[bytes, bytes]], end: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("tx")
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for key, value in rows:
            await producer.send(topic, value, key=key, partition=0)
        if end == "commit":
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
    finally:
        await producer.stop()


@pytest.mark.kafka
class TestKafkaLog:
    async def test_it_reads_all_committed_valid_events(
        self, kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
    ) -> None:
        topic = unique("events")
        servers = kafka.bootstrap_servers
        await create_topics(servers, topic, f"{topic}-erase", partitions=2)
        await produce(servers, topic, shop[:40], partition=0)
        await produce(servers, topic, shop[40:90], partition=1)
        await produce(servers, topic, [(b"u1", b"{"), (b"other", shop[0][1])], partition=1)
        await transaction(kafka, topic, shop[90:100], "abort")
        await transaction(kafka, topic, shop[100:110], "commit")
        log = KafkaLog(settings_for(tmp_path, kafka, topic))
        seen: list[tuple[int, int]] = []
        spool = await log.read(lambda done, total: seen.append((done, total)))
        async with asyncio.timeout(60):
            # A commit is acknowledged before its marker is in the log.
            while len(spool) < 100:
                spool = await log.read(lambda done, total: seen.append((done, total)))
        found = EventLog.join(list(spool.parts()))
        assert log.refused == {"truncated": 1, "key_mismatch (user_id)": 1}
        assert len(found) == 100
        expected = {hash64(key.decode()) for key, _ in [*shop[:90], *shop[100:110]]}
        assert set(found.users.tolist()) == expected
        ids = {hash64(f"e{n}") for n in [*range(90), *range(100, 110)]}
        assert set(found.events.id.tolist()) == ids
        assert all(done <= total for done, total in seen)
        assert seen[-1][0] == seen[-1][1] > 0

    async def test_a_second_read_fetches_only_news(
        self, kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
    ) -> None:
        topic = unique("events")
        await create_topics(kafka.bootstrap_servers, topic, f"{topic}-erase")
        log = KafkaLog(settings_for(tmp_path, kafka, topic))
        assert len(await log.read()) == 0
        await produce(kafka.bootstrap_servers, topic, shop[:30])
        assert len(await log.read()) == 30
        await produce(kafka.bootstrap_servers, topic, shop[30:50])
        seen: list[tuple[int, int]] = []
        found = await log.read(lambda done, total: seen.append((done, total)))
        assert len(found) == 50
        assert seen[-1] == (20, 20)
        assert len(await log.read()) == 50

    async def test_a_missing_topic_is_named(self, kafka: Kafka, tmp_path: Path) -> None:
        log = KafkaLog(settings_for(tmp_path, kafka, unique("nothing")))
        with pytest.raises(TopicLayoutError, match=r"nothing-.* does not exist.*topics create"):
            await log.read()


async def test_a_silent_broker_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"cannot read t from 127\.0\.0\.1:1.*broker status"):
        await KafkaLog(settings_for(tmp_path, Nowhere())).read()


def test_files_and_topic_give_the_same_events(
    jsonl: Path, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    with jsonl.open("ab") as file:
        file.write(b'\n{"event_id"')
    with Spool(tmp_path) as spool:
        assert read_files(spool, [jsonl]) == {"truncated": 1}
        found = EventLog.join(list(spool.parts()))
        assert len(found) == len(spool) == len(shop)
        assert set(found.users.tolist()) == {hash64(key.decode()) for key, _ in shop}
        read_files(spool, [jsonl])
        assert len(spool) == 2 * len(shop)


def test_parquet_and_lines_give_the_same_events(
    tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    lines, columns = tmp_path / "events.jsonl", tmp_path / "events.parquet"
    lines.write_bytes(b"\n".join(value for _, value in shop[:500]))
    rows = [json.loads(value) for _, value in shop[:500]]
    pq.write_table(pa.Table.from_pylist(rows), columns)
    logs = []
    for path, name in ((lines, "jsonl"), (columns, "parquet")):
        with Spool(tmp_path) as spool:
            assert read_files(spool, [path], name) == {}
            logs.append(EventLog.join(list(spool.parts())))
    assert np.array_equal(logs[0].users, logs[1].users)
    for name in Events.__slots__:
        ours, theirs = getattr(logs[0].events, name), getattr(logs[1].events, name)
        assert np.array_equal(ours, theirs)


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
    message = asyncio.run(_first(servers, f"{topic}-models"))
    assert message.key == done.manifest.version.encode()
    published = decode(ModelPublished, message.value)
    assert published == announcement(done.manifest)
    assert published.rollout == "champion"
    folder = settings.models_dir / published.uri
    scorer = Scorer.load(folder, "cpu", expected_digest=published.digest)
    assert [target.horizon_ms for target in scorer.targets] == [3 * DAY_MS, 10 * DAY_MS]


async def _first(servers: str, topic: str) -> object:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return await asyncio.wait_for(consumer.getone(), PATIENCE_S)
    finally:
        await consumer.stop()


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


Cli = Callable[..., tuple[str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the program in this process; returns what it wrote to (standard output, error)."""

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return out, err

    return run


class TestCommands:
    def test_train_list_show_verify(self, tmp_path: Path, jsonl: Path, cli: Cli) -> None:
        models = ("--models-dir", str(tmp_path / "models"))
        data = ("--data-dir", str(tmp_path / "data"))
        config = tmp_path / "settings.toml"
        config.write_text("[train]\nepochs = 1\nmin_windows = 50\narchitecture = 'logistic'\n")
        horizons = ("--purchase-horizon", "3d", "--churn-horizon", "10d")
        out, _ = cli(
            *("train", "--from", str(jsonl), "--no-announce", "--device", "cpu"),
            *(*horizons, *models, *data, "--config", str(config), "--json", "-"),
        )
        manifest = json.loads(out)
        version = manifest["version"]
        assert [t["horizon_ms"] for t in manifest["targets"]] == [3 * DAY_MS, 10 * DAY_MS]
        assert version in cli("models", "list", *models)[0]
        shown, _ = cli("models", "show", version, *models)
        assert "recency" in shown
        as_json, _ = cli("models", "show", version, "--json", *models)
        assert json.loads(as_json) == manifest
        assert "golden vector are right" in cli("models", "verify", *models)[0]
        script = tmp_path / "models" / version / "model.pt"
        script.write_bytes(script.read_bytes()[:-1])
        _, refused = cli("models", "verify", *models, code=1)
        assert f"{version}: REFUSED" in refused
        assert "truncated or altered" in refused

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("train", "--from", "nowhere.jsonl"), "no such file: nowhere.jsonl"),
            (("train", "--from", "kafka", "--from", "x"), "cannot be mixed with files"),
            (("train", "--from", "x", "--every", "soon"), "--every: 'soon' is no duration"),
            (("train", "--from", "x", "--until", "soon"), "'soon' is no time"),
            (("models", "show", "v9"), "no model 'v9'"),
            (("models", "verify"), "run `intentstream train`"),
        ],
    )
    def test_mistakes_give_one_clear_line(
        self, tmp_path: Path, cli: Cli, arguments: tuple[str, ...], message: str
    ) -> None:
        _, err = cli(*arguments, "--models-dir", str(tmp_path / "none"), code=1)
        assert message in err
        assert err.count("\n") == 1

    def test_an_empty_registry_is_said_so(self, tmp_path: Path, cli: Cli) -> None:
        assert "no model in" in cli("models", "list", "--models-dir", str(tmp_path))[1]


RETAIL = Path(__file__).resolve().parents[2] / "../shared/data/online_retail_uci.parquet"


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


@pytest.mark.kafka
def test_a_published_model_can_be_announced_again(
    kafka: Kafka, tmp_path: Path, jsonl: Path, cli: Cli
) -> None:
    topic = unique("events")
    asyncio.run(create_topics(kafka.bootstrap_servers, f"{topic}-models"))
    settings = settings_for(tmp_path / "models", kafka, topic)
    done = run_round(settings, FromFiles((jsonl,)), device="cpu", announced=False)
    config = tmp_path / "settings.toml"
    config.write_text(f"[topics]\nmodels = '{topic}-models'\n")
    version = done.manifest.version
    cli(
        *("models", "promote", version, "--config", str(config)),
        *("--models-dir", str(settings.models_dir)),
        *("--bootstrap-servers", kafka.bootstrap_servers),
    )
    message = asyncio.run(_first(kafka.bootstrap_servers, f"{topic}-models"))
    assert decode(ModelPublished, message.value) == announcement(done.manifest)


@pytest.mark.kafka
def test_every_repeats_until_it_is_told_to_stop(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    topic = unique("events")
    names = (topic, f"{topic}-models", f"{topic}-erase")
    asyncio.run(create_topics(kafka.bootstrap_servers, *names))
    config = tmp_path / "settings.toml"
    config.write_text(
        f"[topics]\nevents = '{topic}'\nmodels = '{topic}-models'\nerase = '{topic}-erase'\n"
        "[train]\nepochs = 1\nmin_windows = 50\narchitecture = 'logistic'\n"
        "[worker]\ncheck_partitioner = false\n"
    )
    with subprocess.Popen(
        [
            *(sys.executable, "-c", "from stream.cli.main import main; main()"),
            *("train", "--every", "500ms", "--config", str(config), "--device", "cpu"),
            *("--bootstrap-servers", kafka.bootstrap_servers),
            *("--models-dir", str(tmp_path / "models"), "--data-dir", str(tmp_path / "data")),
            *("--purchase-horizon", "3d", "--churn-horizon", "10d"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        guard = threading.Timer(90, process.kill)
        guard.start()
        assert process.stderr is not None
        assert process.stdout is not None
        refused = ""
        while "event log is empty" not in refused:
            refused = process.stderr.readline()
            assert refused
        assert "trying again in 500ms" in refused
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        asyncio.run(produce(kafka.bootstrap_servers, topic, shop))
        while "published" not in (line := process.stdout.readline()):
            assert line
        process.terminate()
        process.stdout.read()
        drain.join()
        assert process.wait(PATIENCE_S) == 0
        guard.cancel()
    versions = Registry(tmp_path / "models").versions()
    assert versions
    assert all(np.char.isalnum(version[0]) for version in versions)


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
        if second.architecture != "logistic":
            assert 0 < len(news) - begun <= settings.train.refresh_epochs
        assert (settings.data_dir / "training.state").is_file()
        assert Registry(settings.models_dir).versions() == sorted([first.version, second.version])

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


class TestTune:
    def test_the_best_settings_can_be_trained_with(
        self, tmp_path: Path, jsonl: Path, cli: Cli
    ) -> None:
        config, best = tmp_path / "settings.toml", tmp_path / "best.toml"
        config.write_text(
            f"data_dir = '{tmp_path}'\nmodels_dir = '{tmp_path / 'models'}'\n"
            "[train]\nmin_windows = 50\npurchase_horizon_ms = '3d'\nchurn_horizon_ms = '10d'\n"
        )
        arguments = ("tune", "--from", str(jsonl), "--architecture", "logistic", "--trials", "3")
        out, err = cli(*arguments, "--config", str(config), "--toml", str(best))
        assert err.count("trial ") == 3
        assert "logistic_penalty = " in out
        config.write_text(config.read_text() + best.read_text().removeprefix("[train]\n"))
        out, _ = cli("train", "--from", str(jsonl), "--no-announce", "--config", str(config))
        assert "published" in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--for", "soon"), "--for: 'soon' is no duration"),
            (("--architecture", "oracle"), "architecture"),
            (("--from", "nowhere.jsonl"), "no such file"),
        ],
    )
    def test_mistakes_give_one_clear_line(
        self, jsonl: Path, cli: Cli, arguments: tuple[str, ...], message: str
    ) -> None:
        more = () if "--from" in arguments else ("--from", str(jsonl))
        _, err = cli("tune", *arguments, *more, code=1)
        assert message in err
        assert err.count("\n") == 1


LINE = '{"event_id": "e%d", "type": "%s", "user_id": "u%d", "event_time": %d}'
DAYS_100 = range(0, 100 * DAY, DAY)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ([], "", "the event log is empty"),
        (["{", "null"], "", "the event log is empty"),
        (
            [LINE % (t, "view", t % 7, 1_600_000_000_000 + t) for t in DAYS_100],
            "",
            "one class only",
        ),
        (
            [LINE % (t, "purchase", 1, 1_600_000_000_000 + t) for t in range(0, 20 * DAY, DAY)],
            "",
            "too little for a horizon",
        ),
        ([], "[train]\narchitecture = 'oracle'\n", "train.architecture"),
        ([], "[train]\nprecision = 'float8'\n", "train.precision"),
        ([], "[train]\nmlflow_uri = 'file:///nowhere'\n", "intentstream[mlflow]"),
    ],
    ids=["empty", "no event", "one class", "horizon", "architecture", "precision", "mlflow"],
)
def test_bad_input_ends_with_one_line_and_nothing_published(
    tmp_path: Path, cli: Cli, lines: list[str], settings: str, message: str
) -> None:
    if "mlflow" in settings and importlib.util.find_spec("mlflow"):
        pytest.skip("mlflow is installed")
    events, config = tmp_path / "events.jsonl", tmp_path / "settings.toml"
    events.write_text("\n".join(lines))
    places = f"data_dir = '{tmp_path / 'data'}'\nmodels_dir = '{tmp_path / 'models'}'\n"
    config.write_text(places + (settings or "[train]\nmin_windows = 5\n"))
    _, err = cli("train", "--from", str(events), "--no-announce", "--config", str(config), code=1)
    assert message in err
    # What comes before is the progress of reading.
    assert err.splitlines()[-1].startswith("intentstream: ")
    assert "Traceback" not in err
    assert not (tmp_path / "models").exists()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, jsonl: Path, cli: Cli) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(
        f"data_dir = '{tmp_path}'\nmodels_dir = '{tmp_path / 'models'}'\n[train]\n"
        "min_windows = 50\npurchase_horizon_ms = '3d'\nchurn_horizon_ms = '10d'\n"
    )
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "gru.fit").write_bytes(b"intentstream checkpoint 1\n" + b"0" * 200)
    arguments = ("train", "--from", str(jsonl), "--no-announce", "--resume")
    _, err = cli(*arguments, "--config", str(config), code=1)
    assert "gru.fit is damaged" in err
    assert "train without --resume" in err
    assert not (tmp_path / "models").exists()
