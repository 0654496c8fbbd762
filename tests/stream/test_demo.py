"""The demo's parts, and the whole of it, small, against a real broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from stream.broker import running_servers
from stream.cli.demo import contest_lines
from stream.cli.options import broker_folder, read_settings
from stream.config.loading import load_settings
from stream.demo.errors import DemoError
from stream.demo.guard import Guards
from stream.demo.place import Place, locked, settings_text
from stream.demo.plan import plan_bundled
from stream.demo.processes import run_child, running_child
from stream.demo.run import Options
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


@pytest.mark.slow
async def test_a_failing_process_shows_its_last_line(tmp_path):
    arguments = ["train", "--from", str(tmp_path / "gone")]
    with pytest.raises(DemoError, match=r"part ended with status 1: no such file") as caught:
        await run_child("part", arguments, tmp_path / "log", os.environ)
    assert not any("no such file" in line for line in caught.value.tail)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.full
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


@pytest.mark.full
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
