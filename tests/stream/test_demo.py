"""The demo's parts, and the whole of it, small, against a real broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import structs
from rich.console import Console

from schemas.codec import encode
from schemas.events import Purchase
from schemas.examples import EXAMPLES
from schemas.outputs import ChurnAlert
from stream.broker import running_servers
from stream.cli.demo import _alert_lines, contest_lines
from stream.cli.options import broker_folder, read_settings
from stream.config.durations import DAY_MS
from stream.config.settings import Settings, load_settings
from stream.demo.collector import Collector
from stream.demo.dashboard import Dashboard
from stream.demo.errors import DemoError
from stream.demo.guard import Guards
from stream.demo.place import Place, locked, settings_text
from stream.demo.plan import Plan, plan_bundled
from stream.demo.processes import run_child, running_child
from stream.demo.run import Options
from stream.demo.summary import contest, problems, summary
from stream.demo.view import View
from stream.replay.report import Report
from stream.simulate import Faults, deliver, simulate
from stream.simulate import Plan as Shop
from stream.simulate.wire import write_lines
from tests.patience import PATIENCE_S

T0 = 1_600_000_000_000
ROOT = Path(__file__).parents[2]


# --- place ------------------------------------------------------------------------------------


def test_settings_reach_the_processes_by_file_and_secrets_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("INTENTSTREAM_CHURN__MIN_ORDERS", "9")
    monkeypatch.setenv("INTENTSTREAM_KAFKA__SASL_PASSWORD", "swordfish")
    user = tmp_path / "user.toml"
    user.write_text(
        '[kafka]\nsecurity_protocol = "SASL_PLAINTEXT"\nsasl_username = "ann \\"x\\" \u00e9"\n'
    )
    place = Place(tmp_path / "demo")
    place.root.mkdir()
    settings = place.settings(user, "host:1", "run-1.", plan_bundled().overrides())
    assert settings.churn.min_orders == 2
    assert settings.topics.events == "run-1.shop.events"
    assert settings.app_id == "run-1.demo"
    place.write(settings)
    assert "swordfish" not in place.config.read_text()
    tomllib.loads(settings_text(settings))
    environment = place.environment(settings)
    assert [name for name in environment if name.startswith("INTENTSTREAM_")] == [
        "INTENTSTREAM_KAFKA__SASL_PASSWORD"
    ]
    monkeypatch.delenv("INTENTSTREAM_CHURN__MIN_ORDERS")
    assert load_settings(place.config) == settings


def test_one_demo_at_a_time(tmp_path):
    place = Place(tmp_path / "demo")
    with locked(place), pytest.raises(DemoError, match="another demo runs"), locked(place):
        pass
    with locked(place):
        pass


def test_clearing_keeps_the_broker_unless_told(tmp_path):
    place = Place(tmp_path)
    for folder in (place.broker, place.state / "demo", place.models, tmp_path / "logs"):
        folder.mkdir(parents=True)
    (place.state / "lock").touch()
    place.clear(broker=False)
    assert list(tmp_path.rglob("*")) == [place.state, place.broker]
    place.clear(broker=True)
    assert list(tmp_path.rglob("*")) == [place.state]


def test_broker_start_finds_the_brokers_data_by_the_demos_config(tmp_path):
    place = Place(tmp_path / "demo")
    place.root.mkdir()
    place.write(place.settings(None, "127.0.0.1:19092", "", plan_bundled().overrides()))
    assert broker_folder(read_settings(place.config)) == place.broker


# --- processes and guards -----------------------------------------------------------------------


async def test_a_failing_process_shows_its_last_line(tmp_path):
    arguments = ["train", "--from", str(tmp_path / "gone")]
    with pytest.raises(DemoError, match=r"part ended with status 1: no such file") as caught:
        await run_child("part", arguments, tmp_path / "log", os.environ)
    assert not any("no such file" in line for line in caught.value.tail)


async def test_a_process_is_ended_whatever_happens(tmp_path):
    arguments = ["train", "--from", str(tmp_path / "pipe"), "--no-announce"]
    os.mkfifo(tmp_path / "pipe")
    children = []

    async def interrupted() -> None:
        async with running_child("part", arguments, tmp_path / "log", os.environ, 1) as child:
            children.append(child.process)
            assert child.process.returncode is None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await interrupted()
    (process,) = children
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_work_ends_with_what_it_depends_on():
    async def fails() -> None:
        await asyncio.sleep(0.05)
        raise DemoError("the other thing failed")

    async def quick() -> int:
        return 7

    guards = Guards()
    ended = guards.add(quick())
    assert await guards.run(quick()) == 7
    guards.add(fails())
    with pytest.raises(DemoError, match="the other thing"):
        await guards.run(asyncio.sleep(60))
    assert await ended == 7
    released = guards.add(asyncio.sleep(60))
    guards.release(released)
    with pytest.raises(DemoError, match=r"no progress for 0 s while waiting for godot"):
        await guards.until(lambda: False, lambda: 1, 0.0, "godot")
    steps = iter(range(100))
    await guards.until(lambda: next(steps) > 3, lambda: next(steps), 5.0, "the end")
    await guards.close()
    assert released.cancelled()


# --- views and summary ----------------------------------------------------------------------------


def empty_run() -> tuple[Plan, Collector, Report]:
    plan = plan_bundled()
    return plan, Collector(Settings(), replace(plan.outcome_rules(), since=0)), Report()


def test_a_run_without_figures_is_no_success():
    plan, collector, report = empty_run()
    found = problems(summary(plan, collector, report, 60, 61.2, []))
    assert len(found) == 2
    assert "only one model" in found[0]
    assert "matured" in found[1]
    figures = summary(plan, collector, report, 60, 61.2, []) | {
        "consumed": 3,
        "predictions_read": 1,
    }
    assert len(problems(figures)) == 5


def taken(collector: Collector, topic: str, message: object) -> None:
    collector._take[topic](SimpleNamespace(value=encode(message), partition=0))


def test_alerts_stand_beside_a_rule_of_fixed_inactivity():
    """Two users leave on day 190 and 191, others come every week; one is alerted."""
    plan, collector, report = empty_run()
    topics, users = collector.settings.topics, {"gone": (170, 183, 190), "left": (171, 184, 191)}
    users |= {f"here{n}": tuple(range(170 + n, 370, 7)) for n in range(5)}
    for user, days in users.items():
        for day in days:
            time = plan.since + day * DAY_MS
            taken(
                collector,
                topics.events,
                Purchase(event_id=f"{user}-{day}", user_id=user, event_time=time),
            )
    example = EXAMPLES[ChurnAlert]
    for state, day in (("raised", 210), ("escalated", 220)):
        time = plan.since + day * DAY_MS
        alert = structs.replace(example, user_id="gone", state=state, event_time=time)
        taken(collector, topics.churn, alert)
    figures = summary(plan, collector, report, 60, 61.2, [])
    both = figures["alerts_and_rule"]
    assert both["alerts"]["raised"] == both["alerts"]["precision"] == 1
    assert both["alerts"]["recall"] == 0.5
    assert both["rule"]["raised"] <= 1
    assert "100.0% were right, and 50.0% of the lost orders" in _alert_lines(figures)[-1]
    closing = structs.replace(example, user_id="gone", state="resolved", event_time=time + 1)
    taken(collector, topics.churn, closing)
    found = summary(plan, collector, report, 60, 61.2, [])["alerts_and_rule"]["alerts"]
    assert found["recall"] == 0


def test_the_end_says_who_wins_each_figure():
    beside = {
        "alerts": {"precision": 0.7, "recall": 0.2},
        "rule": {"precision": 0.6, "recall": 0.2},
    }
    at_events = {"ece": 0.02, "rule_ece": 0.05, "ece_chance": 0.01}
    at_timers = {"ece": 0.09, "rule_ece": 0.05, "ece_chance": 0.01}
    rows = contest(beside, {"churn": {"event": at_events, "timer": at_timers}})
    assert [(row["name"], row["winner"]) for row in rows] == [
        ("alert precision", "model"),
        ("alert recall", "neither"),
        ("live ECE of churn at events", "model"),
        ("live ECE of churn at timers", "rule"),
    ]
    lines = contest_lines({"contest": rows})
    assert lines[0].split() == ["model", "fixed", "rule", "chance", "wins"]
    assert lines[1].split() == ["alert", "precision", "0.700", "0.600", "-", "model"]
    assert lines[-1].endswith("0.090  0.050       0.010   rule")
    assert contest(None, {}) == contest_lines({"contest": []}) == []


def test_each_number_of_alerts_says_what_it_counts():
    plan, collector, report = empty_run()
    figures = summary(plan, collector, report, 60, 61.2, []) | {
        "alerts": 12,
        "alerts_raised": 5,
        "alerts_escalated": 3,
        "alerts_resolved": 4,
        "alerts_judged": {"raised": 4, "right": 2, "wrong": 1, "unknown": 1},
        "alert_precision": 2 / 3,
    }
    assert _alert_lines(figures) == [
        (
            "alert messages of history and live part: 12 = 5 raised + 3 escalated + 4 resolved"
            " + 0 retracted"
        ),
        (
            "alerts raised in the live part: 4 = 2 right + 1 wrong + 1 not known yet; 66.7% of the"
            " known ones were right"
        ),
    ]


@pytest.mark.parametrize("height", [12, 60])
def test_the_picture_fits_the_terminal(height):
    console = Console(force_terminal=True, width=120, height=height, record=True)
    dashboard = Dashboard(console)
    try:
        dashboard.phase("starting")
        dashboard.show(*empty_run())
        dashboard.update()
        shown = console.render_lines(dashboard._picture(), pad=False)
    finally:
        dashboard.close()
    assert len(shown) < height or height == 12
    assert len(shown) <= 14 or height == 60


def test_the_picture_shows_live_calibration_at_events_and_at_timers_apart():
    plan, collector, report = empty_run()
    for n in range(40):
        window = collector.joiner._windows.of(None, "churn")
        window.add(n % 2 == 0, 0.5, 1.0, f"u{n}", "event" if n < 20 else "timer")
    console = Console(force_terminal=False, width=160, height=60, record=True)
    dashboard = Dashboard(console)
    try:
        dashboard.show(plan, collector, report)
        dashboard.update()
    finally:
        dashboard.close()
    said = console.export_text()
    for place in ("at events", "at timers"):
        (line,) = [line for line in said.splitlines() if place in line]
        assert "20" in line.split()
        assert "(chance 0." in line


def test_lines_for_pipes(capsys):
    view = View()
    view.show(*empty_run())
    view.phase("live")
    view.update()
    view.close()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert "online_retail_uci.parquet: 2010-12-01 08:26:00 to 2011-12-09 12:50:00" in said[0]


def test_a_longer_demo_refreshes_more_often():
    assert [Options(seconds).refreshes for seconds in (5, 60, 119, 180)] == [1, 1, 1, 3]


# --- the command --------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "stream.cli.main", "demo", *map(str, arguments)]


def shop(path: Path) -> Path:
    plan = Shop(users=2500, events=40_000, start=T0, days=60, purchase_share=0.15, seed=3)
    write_lines(deliver(simulate(plan), Faults(duplicates=0.02, disorder=0.02)), path, Report())
    return path


def wrong_usage(*arguments: object) -> str:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_wrong_usage_is_one_line_and_starts_nothing(tmp_path):
    place = ("--data-dir", tmp_path)
    assert "go together" in wrong_usage("--data", "x", *place)
    assert "no such file" in wrong_usage("--data", "x", "--format", "jsonl", *place)
    missing = tmp_path / "no" / "out.json"
    assert "there is no folder" in wrong_usage("--json", missing, *place)
    assert not (tmp_path / "demo").exists()


async def topics(servers: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


@pytest.mark.kafka
async def test_the_whole_demo_on_a_cluster_that_it_leaves_as_it_was(kafka, tmp_path):
    data, out = shop(tmp_path / "shop.jsonl"), tmp_path / "demo.json"
    arguments = ["--data", data, "--format", "jsonl", "--headless", "--seconds", 10, "--json", out]
    cluster = ["--bootstrap-servers", kafka.bootstrap_servers, "--data-dir", tmp_path]
    done = await asyncio.to_thread(
        subprocess.run,
        command(*arguments, *cluster),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["consumed"] == figures["sent"] > 40_000
    assert figures["consumed"] == sum(
        figures[name] for name in ("accepted", "duplicate", "late", "invalid")
    )
    assert figures["duplicate"] > 500
    assert len(figures["model_versions"]) >= 2
    assert figures["alerts_raised"] > figures["alerts_resolved"] > 0
    assert 0.5 < figures["recency_auc"] < figures["rolling_auc"] < 1
    assert figures["matured"] > 1000
    assert 0 < figures["alert_precision"] < 1
    assert 0 < figures["base_rate"] < 1
    assert figures["predictions"] == figures["predictions_read"]
    judged = figures["alerts_judged"]
    assert judged["raised"] == judged["right"] + judged["wrong"] + judged["unknown"]
    assert "live, and training on it" in done.stdout
    for target in ("purchase", "churn"):
        found = figures["live_calibration"][target]
        assert set(found) == {"event", "timer"}
        for population in found.values():
            assert abs(population["predicted"] - population["observed"]) <= population["ece"] + 1e-9
            assert population["predictions"] >= population["users"] > 50
            assert (
                sum(row["predictions"] for row in population["calibration"])
                == (population["predictions"])
            )
            assert 0 < population["ece_chance"] < 0.2
    names = [row["name"] for row in figures["contest"]]
    assert names[:2] == ["alert precision", "alert recall"]
    assert all(line in done.stdout for line in contest_lines(figures))
    left = [name for name in await topics(kafka.bootstrap_servers) if name.startswith("demo-")]
    assert left == []
    assert not (tmp_path / "demo" / "kafka").exists()


@pytest.mark.kafka
def test_an_interrupted_demo_leaves_nothing_running(tmp_path):
    broker = Place(tmp_path / "demo").broker
    with subprocess.Popen(
        command("--headless", "--data-dir", tmp_path, "--limit", 100_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            said = []
            for line in running.stdout:
                said.append(line)
                if "training on the history" in line:
                    break
            time.sleep(1)
            assert running_servers(broker) is not None, said
            running.send_signal(signal.SIGINT)
            rest = running.stdout.read()
            assert running.wait(PATIENCE_S) == 130, rest
        finally:
            running.kill()
    assert "interrupted: everything that was started is stopped" in rest
    assert running_servers(broker) is None
    # What is written there by a process that still runs would grow or reappear.
    log = tmp_path / "demo" / "logs" / "trainer-1.log"
    size = log.stat().st_size
    time.sleep(1)
    assert log.stat().st_size == size
