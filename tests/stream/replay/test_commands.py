import asyncio
import json

import pytest

from stream.cli.main import main
from stream.cli.produce import Format
from stream.replay.formats import FORMATS
from stream.replay.source import read_events
from stream.simulate.truth_file import load_truth
from tests.stream.kafka_tools import create_topics, end_offsets, unique
from tests.stream.replay.files import ROOT, TAOBAO, needs_taobao


def run(*arguments):
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    return exited.value.code


@pytest.fixture
async def target(kafka):
    topic = unique("commands")
    await create_topics(kafka.bootstrap_servers, topic, partitions=4)
    return topic, ["--topic", topic, "--bootstrap-servers", kafka.bootstrap_servers]


def test_formats_are_the_adapters():
    assert [str(format_) for format_ in Format] == list(FORMATS)


@needs_taobao
@pytest.mark.kafka
@pytest.mark.parametrize("order", ["time", "file"])
def test_the_issue_s_command(target, tmp_path, capsys, order):
    _, options = target
    out = tmp_path / "report.json"
    window = ["--since", "1511539200", "--until", "1512316800", "--speed", "max"]
    command = ["produce", TAOBAO, "--format", "taobao", *window, "--order", order]
    assert run(*command, *options, "--json", out) == 0
    report = json.loads(out.read_text())
    assert (report["sent"], report["outside"], report["unparsed"]) == (84_440, 35, 1)
    assert (report["lines"], report["unaccounted"]) == (84_476, 0)
    assert report["unparsed_reasons"]["5 columns expected"]["lines"] == [84_476]
    shown = capsys.readouterr().out
    assert "84,440" in shown
    assert "84476" in shown


@pytest.mark.kafka
def test_limit_and_json_to_standard_output(kafka, target, capsys):
    topic, options = target
    file = ROOT / "data" / "online_retail_uci.parquet"
    command = ["produce", file, "--format", "online-retail", "--limit", 500, "--json", "-"]
    assert run(*command, "--order", "file", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sent"] == 500
    assert sum(asyncio.run(end_offsets(kafka.bootstrap_servers, topic)).values()) == 500


@pytest.mark.slow
def test_wrong_usage_is_one_line_with_a_remedy(tmp_path, capsys):
    file = tmp_path / "x.csv"
    file.write_text("1,2,3,pv,5\n")
    command = ["produce", file, "--format", "taobao", "--bootstrap-servers", "127.0.0.1:1"]
    for extra, message in (
        (["--speed", "fast"], "--speed fast: give seconds"),
        (["--since", "soon"], "'soon' is no time"),
        (["--since", "5", "--until", "5"], "no event can match"),
        ([], "no Kafka broker answers"),
    ):
        assert run(*command, *extra) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("intentstream: ")
        assert message in error
    assert run("produce", tmp_path / "none", "--format", "taobao") == 1
    assert run("produce", file, "--format", "csv") == 2


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", [], "0 lines read"),
        ("{\n\nnull\n", [], "check that the file is jsonl"),
        (
            '{"type": "view", "event_id": "e", "user_id": "u", "event_time": 1600000000}\n',
            [],
            "1 event_time looks like seconds; milliseconds since 1970 are needed (line 1)",
        ),
        (
            '{"type": "view", "event_id": "e", "user_id": "u", "event_time": 1600000000000}\n',
            ["--until", "2020-01-01"],
            "1 outside --since/--until (line 1)",
        ),
    ],
    ids=["empty", "broken", "seconds", "window"],
)
def test_nothing_sent_is_an_error(target, tmp_path, capsys, text, options, message):
    file = tmp_path / "events.jsonl"
    file.write_text(text)
    assert run("produce", file, "--format", "jsonl", *options, *target[1]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"intentstream: nothing was sent: no event of {file} can be used: ")
    assert message in error


@pytest.mark.slow
def test_simulate_writes_events_and_truth(tmp_path, capsys):
    events, truth = tmp_path / "shop.jsonl", tmp_path / "truth.parquet"
    command = ["simulate", "--users", 50, "--events", 2_000, "--seed", 3, "--poison", 0.01]
    assert run(*command, "--out", events, "--truth", truth, "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["synthetic"] is True
    assert (report["events"], report["poison"], report["sent"]) == (2_000, 20, 2_020)
    assert len(list(read_events(events, "jsonl"))) == 2_000
    assert len(load_truth(truth).first) == 50
    assert run(*command, "--out", tmp_path) == 1
    assert run(*command, "--days", 0, "--out", events) == 1
    assert "days must be positive" in capsys.readouterr().err


@pytest.mark.kafka
def test_simulate_produces_every_record(target, tmp_path):
    _, options = target
    out = tmp_path / "report.json"
    command = ["simulate", "--users", 100, "--events", 5_000, "--poison", 0.02, "--duplicates", 0.1]
    assert run(*command, *options, "--json", out) == 0
    report = json.loads(out.read_text())
    assert report["sent"] == report["records"] == 5_100 + report["duplicates"]
    assert set(report["poison_kinds"]) >= {"key_missing", "key_mismatch", "not_utf8"}
