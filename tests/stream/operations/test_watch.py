"""The watch command: rows and JSON of every message, live and from the beginning."""

import io
import json
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from schemas.codec import encode
from schemas.control import ModelPublished
from schemas.outputs import AlertReason, ChurnAlert, Prediction, Source, TargetScore
from schemas.refused import DeadLetter
from stream.cli.watch import What, _LiveTable
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.errors import BrokerError, TopicLayoutError
from stream.kafka.tail import open_bounds, open_tail
from stream.operations.watch import VIEWS, duration, moment, table_row, to_json
from stream.operations.watch_rows import fitting_lines
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, produce, unique

DAY = 86_400_000
T0 = 1_306_917_000_000
SOURCE = Source("shop.events", 2, 17)


def prediction(user: str) -> Prediction:
    return Prediction(
        prediction_id=f"m1:shop.events:2:{user}",
        user_id=user,
        targets={"purchase": TargetScore(0.251, 28 * DAY), "churn": TargetScore(0.4, 42 * DAY)},
        model_version="m1",
        feature_version="1",
        state_time=T0,
        event_time=T0,
        source=SOURCE,
        cold_start=user == "new",
    )


def long_prediction(number: int) -> Prediction:
    """With a version and an id as the trainer and the worker make them."""
    version = "20261130T200943Z-gru-fcdbed07"
    return msgspec.structs.replace(
        prediction(f"customer-{number}"),
        model_version=version,
        prediction_id=f"{version}:shop.events:2:{number}",
    )


MESSAGES = {
    "predictions": prediction("ann"),
    "alerts": ChurnAlert(
        alert_id="a",
        episode="a",
        user_id="ann",
        state="raised",
        risk=0.71,
        silence_ms=int(52.5 * DAY),
        expected_gap_ms=14 * DAY,
        reasons=[AlertReason("log_overdue", 0.2), AlertReason("log_orders", -0.05)],
        value_at_risk=1234.5,
        arm="holdout",
        cause="silence",
        model_version="m1",
        event_time=T0,
        source=SOURCE,
    ),
    "dead-letter": DeadLetter(
        reason="truncated", source=SOURCE, detail="ends early", value=b'{"a\x1b[2J' + b"x" * 99
    ),
    "models": ModelPublished(
        version="m1",
        digest="0" * 64,
        uri="m1",
        architecture="gru",
        feature_version="1",
        metrics={"purchase.roc_auc": 0.75, "purchase.points": 1000.0},
        published_at=T0,
    ),
}


class Fetched:
    topic, partition, offset = "t", 0, 5

    def __init__(self, value: bytes | None) -> None:
        self.value = value


def row_of(name: str, message: msgspec.Struct) -> tuple[str, ...]:
    row = table_row(VIEWS[name], Fetched(encode(message)))
    assert row is not None
    assert len(row) == len(VIEWS[name].columns)
    return row


def test_every_view_is_a_word_of_the_command_and_has_its_topic():
    assert {what.value for what in What} == set(VIEWS)
    topics = Settings().topics
    assert [view.topic_name(topics) for view in VIEWS.values()] == [
        "predictions.propensity",
        "alerts.churn",
        "shop.events.dead-letter",
        "models.published",
    ]


def test_rows_say_what_matters():
    scores = "purchase 25.1% in 28.0d, churn 40.0% in 42.0d"
    assert row_of("predictions", MESSAGES["predictions"]) == (
        *(moment(T0), "ann", scores, "m1"),
        "m1:shop.events:2:ann",
    )
    assert row_of("predictions", prediction("new"))[-2] == "m1 cold start"
    waiting = msgspec.structs.replace(prediction("ann"), expected_wait_ms=9 * DAY)
    assert row_of("predictions", waiting)[2] == f"{scores}, next purchase in 9.0d"
    spending = msgspec.structs.replace(prediction("ann"), expected_spend=1234.5)
    assert row_of("predictions", spending)[2] == f"{scores}, spends 1,234.50"
    alert = row_of("alerts", MESSAGES["alerts"])
    assert alert[1:6] == ("ann", "raised", "71.0%", "52.5d", "14.0d")
    assert alert[6:] == ("1,234.50", "holdout", "silence", "log_overdue +0.20, log_orders -0.05")
    assert row_of("models", MESSAGES["models"])[4] == "purchase.roc_auc 0.7500"


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_at_80_columns_no_line_is_longer_and_no_cell_is_lost(name: str):
    row = row_of(name, MESSAGES[name])
    lines = fitting_lines(VIEWS[name].columns, [row] * 3, 80, 40)
    assert max(map(len, lines)) <= 80
    for cell in row:
        assert cell in "\n".join(lines) or cell in "".join(lines)


def test_a_narrow_table_has_the_newest_rows_and_whole_ids():
    console = Console(force_terminal=True, width=80, height=24, file=io.StringIO())
    with _LiveTable(VIEWS["predictions"], console) as shown:
        shown.begin("predictions.propensity")
        for n in range(60):
            shown.add(Fetched(encode(long_prediction(n))))
        lines = shown._picture().plain.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    newest = [long_prediction(n).prediction_id for n in range(57, 60)]
    assert [i for i in newest if any(line.endswith(i) for line in lines)] == newest
    assert lines[-1].endswith(newest[-1])


def test_the_newest_row_is_shown_however_low_the_terminal():
    rows = [("a" * 200, str(n)) for n in range(9)]
    lines = fitting_lines(("one", "two"), rows, 20, 2)
    assert lines[-1].strip() == "two 8"
    assert max(map(len, lines)) <= 20
    assert fitting_lines(("one", "two"), [], 20, 2) == ["one  two"]


def test_texts_from_outside_cannot_steer_the_terminal():
    row = row_of("dead-letter", MESSAGES["dead-letter"])
    assert row[:2] == ("shop.events/2/17", "truncated")
    assert all(cell.isprintable() for cell in row)
    hostile = msgspec.structs.replace(MESSAGES["predictions"], user_id="a\x1b[31m\n\tb")
    assert all(cell.isprintable() for cell in row_of("predictions", hostile))


def test_what_cannot_be_read_is_shown_and_tombstones_are_passed_over():
    assert table_row(VIEWS["models"], Fetched(None)) is None
    assert to_json(Fetched(None)) is None
    row = table_row(VIEWS["alerts"], Fetched(b"{}"))
    assert row[0] == "unreadable: t/0/5"
    assert "missing_field" in row[1]
    assert to_json(Fetched(b"\xff")) == '{"unreadable":"/w=="}'
    assert to_json(Fetched(b'{ "a":\n1 }')) == '{"a":1}'


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0ms"), (999, "999ms"), (90_000, "1.5m"), (5_400_000, "1.5h")]
)
def test_durations(ms, text):
    assert duration(ms) == text


def test_moments_are_utc_and_never_fail():
    assert moment(1_306_917_000_000) == "2011-06-01 08:30:00"
    assert moment(10**18) == "1000000000000000000"


def settings_of(kafka, prefix: str) -> Settings:
    names = ("propensity", "churn", "dead_letter", "models")
    return load_settings(
        overrides={
            "kafka": {"bootstrap_servers": kafka.bootstrap_servers},
            "topics": {name: f"{prefix}.{name}" for name in names},
        }
    )


async def filled(kafka) -> Settings:
    settings = settings_of(kafka, unique("watch"))
    for name, view in VIEWS.items():
        topic = view.topic_name(settings.topics)
        await create_topics(kafka.bootstrap_servers, topic)
        values = [(b"ann", encode(MESSAGES[name]))] * 3
        await produce(kafka.bootstrap_servers, topic, values)
    return settings


def watch(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    topics = {
        f"INTENTSTREAM_TOPICS__{name.upper()}": getattr(settings.topics, name)
        for name in ("propensity", "churn", "dead_letter", "models")
    }
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "watch", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=topics | {"INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers},
    )


@pytest.mark.kafka
async def test_the_command_prints_every_view_as_json_and_as_lines(kafka):
    settings = await filled(kafka)
    for name, message in MESSAGES.items():
        start = () if name == "models" else ("--from-beginning",)
        done = watch(settings, name, *start, "--limit", "2", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert [json.loads(line) for line in lines] == [json.loads(encode(message))] * 2
    done = watch(settings, "alerts", "--from-beginning", "--limit", "3")
    assert done.returncode == 0
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == ["raised"] * 3


@pytest.mark.kafka
async def test_without_from_beginning_only_what_is_new_comes(kafka):
    settings = await filled(kafka)
    topic = settings.topics.propensity
    async with open_tail(settings, [topic]) as tail:
        assert await tail.poll(0.3) == []
        await produce(kafka.bootstrap_servers, topic, [(b"bob", encode(prediction("bob")))])
        records = await tail.poll(10)
        assert [record.offset for record in records] == [3]
    async with open_tail(settings, [topic], from_beginning=True) as tail:
        read = [r.offset async for batch in tail.read_to_end(10) for r in batch]
        assert read == [0, 1, 2, 3]
    async with open_bounds(settings, topic) as bounds:
        assert await bounds.read() == {0: (0, 4)}


@pytest.mark.kafka
async def test_a_missing_topic_and_a_missing_broker_are_one_line(kafka):
    settings = settings_of(kafka, unique("nothing"))
    done = watch(settings, "alerts")
    assert done.returncode == 1
    assert "topics create" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(TopicLayoutError, match="is missing"):
        async with open_tail(settings, [settings.topics.churn]):
            pass
    gone = load_settings(overrides={"kafka": {"bootstrap_servers": "127.0.0.1:1"}})
    done = watch(gone, "predictions")
    assert done.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(BrokerError, match="broker start"):
        async with open_tail(gone, ["t"]):
            pass
