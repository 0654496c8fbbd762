import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient

from stream.broker import EmbeddedKafka, running_servers
from stream.broker.config import Ports, server_properties, write_properties
from stream.broker.folder import Folder
from stream.broker.process import free_ports, is_alive, is_free, spawn
from stream.cli.main import main
from stream.cli.options import read_settings
from stream.errors import BrokerError
from tests.patience import PATIENCE_S


def members(servers: str) -> set[int]:
    async def ask() -> set[int]:
        client = AIOKafkaClient(bootstrap_servers=servers)
        await client.bootstrap()
        try:
            return {broker.nodeId for broker in client.cluster.brokers()}
        finally:
            await client.close()

    return asyncio.run(ask())


def state(task: Path) -> str:
    return (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@pytest.fixture
def broker(tmp_path: Path, cached: None) -> Iterator[EmbeddedKafka]:
    # A space and letters beyond ASCII: home folders have them.
    properties = {"broker.session.timeout.ms": "4000"}  # which a killed one has to wait for
    broker = EmbeddedKafka(tmp_path / "dätä folder", properties=properties)
    yield broker
    broker.stop()


@pytest.mark.full
@pytest.mark.kafka
def test_starts_is_found_survives_a_kill_and_stops(broker, tmp_path):
    first = broker.start()
    assert members(first.bootstrap_servers) == {1}
    assert first.bootstrap_servers.startswith("127.0.0.1:")
    assert not first.found
    assert first.notices == ()

    again = EmbeddedKafka(tmp_path / "dätä folder").start()
    assert again.found
    assert again.pids == first.pids
    assert again.bootstrap_servers == first.bootstrap_servers
    assert running_servers(tmp_path / "dätä folder") == first.bootstrap_servers

    os.kill(first.pids[1], signal.SIGKILL)
    while broker.status()[0].running:
        time.sleep(0.01)
    assert running_servers(tmp_path / "dätä folder") is None
    recovered = broker.start()
    assert recovered.bootstrap_servers == first.bootstrap_servers
    assert recovered.pids != first.pids
    (notice,) = recovered.notices
    assert str(first.pids[1]) in notice
    assert "without being stopped" in notice

    assert broker.stop()
    assert not broker.stop()
    (node,) = broker.status()
    assert (node.pid, node.running, node.answers) == (None, False, False)
    assert running_servers(tmp_path / "dätä folder") is None


@pytest.mark.kafka
def test_a_taken_port_is_replaced_and_said(broker):
    port = int(broker.start().bootstrap_servers.rpartition(":")[2])
    broker.stop()
    with socket.create_server(("127.0.0.1", port)):
        info = broker.start()
        assert members(info.bootstrap_servers) == {1}
    (notice,) = info.notices
    assert f"port {port}" in notice
    assert "taken by another program" in notice


@pytest.mark.kafka
def test_a_port_that_is_taken_at_the_last_moment_is_replaced(broker, monkeypatch):
    port = int(broker.start().bootstrap_servers.rpartition(":")[2])
    broker.stop()
    looks = iter([True] * 3)  # client, internal, controller: nobody there yet
    monkeypatch.setattr(
        "stream.broker.process.is_free", lambda asked: next(looks, None) or is_free(asked)
    )
    with socket.create_server(("127.0.0.1", port)):
        info = broker.start()
        assert members(info.bootstrap_servers) == {1}
    (notice,) = info.notices
    assert f"port {port}" in notice


@pytest.mark.kafka
def test_a_broker_the_folder_does_not_remember_is_reported(broker, tmp_path):
    pid = broker.start().pids[1]
    state = tmp_path / "dätä folder" / "broker.json"
    remembered = json.loads(state.read_bytes())
    remembered["nodes"]["1"]["pid"] = None
    state.write_text(json.dumps(remembered))
    with pytest.raises(BrokerError, match=r"Kafka process that this folder does not remember"):
        broker.start()
    remembered["nodes"]["1"]["pid"] = pid
    state.write_text(json.dumps(remembered))


@pytest.mark.kafka
def test_a_broker_that_cannot_start_says_why_at_once(tmp_path, cached, monkeypatch):
    monkeypatch.setattr("stream.broker.cluster._READY_S", PATIENCE_S)  # not by giving up
    broken = EmbeddedKafka(tmp_path / "data", properties={"num.io.threads": "many"})
    with pytest.raises(BrokerError, match=r"many.*num\.io\.threads"):
        broken.start()
    assert EmbeddedKafka(tmp_path / "data").status()[0].pid is None


@pytest.mark.kafka
def test_a_stopped_process_is_reported_not_hung_on(broker, monkeypatch):
    monkeypatch.setattr("stream.broker.cluster._FOUND_S", 1.0)
    pid = broker.start().pids[1]
    os.kill(pid, signal.SIGSTOP)
    while not all(state(task) in "tT" for task in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.01)
    try:
        with pytest.raises(BrokerError, match=rf"pid {pid}.*intentstream broker stop"):
            broker.start()
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.kafka
def test_commands_find_a_broker_on_the_port_asked_for(cached, tmp_path, monkeypatch, capsys):
    (free,) = free_ports(1)
    monkeypatch.setattr("stream.cli.broker.DEFAULT_PORT", free)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    try:
        main_of("broker", "start")
        assert capsys.readouterr().out == f"127.0.0.1:{free}\n"
        main_of("topics", "create")
        assert read_settings().kafka.bootstrap_servers == f"127.0.0.1:{free}"
        with pytest.raises(BrokerError, match=rf"runs on port {free}: run .*broker stop"):
            EmbeddedKafka(tmp_path / "var" / "kafka", port=free + 1).start()
        with pytest.raises(BrokerError, match=rf"port {free} .* is taken .* another one"):
            EmbeddedKafka(tmp_path / "second", port=free).start()
        assert EmbeddedKafka(tmp_path / "second").status() == []
        # Where the default is taken another one is, and is named.
        main_of("broker", "start", "--data-dir", "third")
        told = capsys.readouterr()
        assert f":{free}" not in told.out
        assert f"does not use port {free}" in told.err
    finally:
        main_of("broker", "stop")
        main_of("broker", "stop", "--data-dir", "third")
    assert read_settings().kafka.bootstrap_servers == ""


def main_of(*arguments):
    with contextlib.suppress(SystemExit):
        main(arguments)


@pytest.mark.kafka
def test_three_brokers_lose_one_and_get_it_back(kafka_cluster):
    assert members(kafka_cluster.bootstrap_servers) == {1, 2, 3}
    kafka_cluster.broker.kill(2)
    assert [node.running for node in kafka_cluster.broker.status()] == [True, False, True]
    info = kafka_cluster.broker.restart(2)
    assert info.bootstrap_servers == kafka_cluster.bootstrap_servers
    assert members(info.bootstrap_servers) == {1, 2, 3}


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BrokerError, match=r"not a folder of an embedded broker.*thesis\.tex"):
        EmbeddedKafka(tmp_path).start()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broker.lock", "thesis.tex"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"cannot write .*--data-dir"):
        EmbeddedKafka(tmp_path / "file" / "data").start()


def test_a_comma_in_the_folder_is_refused(tmp_path):
    with pytest.raises(BrokerError, match="comma"):
        EmbeddedKafka(tmp_path / "a,b")


def test_a_damaged_state_file_is_named(tmp_path):
    (tmp_path / "broker.json").write_text('{"cluster_id": 7')
    with pytest.raises(BrokerError, match=r"cannot read .*broker\.json.*--data-dir"):
        EmbeddedKafka(tmp_path).start()


def test_another_number_of_brokers_is_refused(tmp_path):
    folder = Folder(tmp_path)
    folder.create(3)
    with pytest.raises(BrokerError, match=r"cluster of 3, not of 1.*--brokers 3"):
        EmbeddedKafka(tmp_path, brokers=1).start()


def test_a_reused_pid_is_not_taken_for_the_broker(tmp_path):
    folder = Folder(tmp_path)
    remembered = folder.create(1)
    remembered.nodes[1].pid = os.getpid()
    folder.write(remembered)
    (node,) = EmbeddedKafka(tmp_path).status()
    assert not node.running
    EmbeddedKafka(tmp_path).stop()


def test_a_folder_without_a_broker_has_no_status(tmp_path):
    assert EmbeddedKafka(tmp_path / "none").status() == []
    assert not EmbeddedKafka(tmp_path / "none").stop()
    assert not (tmp_path / "none").exists()
    with pytest.raises(BrokerError, match="no broker was ever started"):
        EmbeddedKafka(tmp_path / "none").restart(1)


@pytest.mark.slow
def test_commands_on_one_folder_wait_for_each_other_but_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("stream.broker.folder._LOCK_WAIT_S", 0.2)
    with (
        Folder(tmp_path).locked(),
        pytest.raises(BrokerError, match="another command has been working"),
        Folder(tmp_path).locked(),
    ):
        pass
    with Folder(tmp_path).locked():
        pass


@pytest.mark.slow
def test_spawned_processes_are_recognised_and_logs_rotated(tmp_path):
    log = tmp_path / "deep" / "out.log"
    pids = []
    for mark in ("one", "two"):
        code = f"import time; print('{mark}', flush=True); time.sleep(60)"
        pid = spawn([sys.executable, "-c", code], log)
        pids.append(pid)
        assert is_alive(pid, mark)
        assert not is_alive(pid, "three")
        while mark not in log.read_text():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid, mark):
            time.sleep(0.01)
    assert (tmp_path / "deep" / "out.log.1").read_text() == "one\n"


@pytest.mark.slow
def test_a_killed_process_counts_until_its_port_is_free(tmp_path):
    for round_ in range(5):
        (port,) = free_ports(1)
        log = tmp_path / f"{round_}.log"
        code = (
            "import socket, threading, time\n"
            f"server = socket.create_server(('127.0.0.1', {port}))\n"
            "memory = bytearray(100_000_000)\n"
            "for _ in range(50): threading.Thread(target=time.sleep, args=(60,)).start()\n"
            "print('ready', flush=True)"
        )
        pid = spawn([sys.executable, "-c", code], log)
        while "ready" not in log.read_text():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid, "socket.create_server"):
            pass
        assert is_free(port)


def test_free_ports_are_free_and_different():
    ports = free_ports(9)
    assert len(set(ports)) == 9
    assert all(map(is_free, ports))
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])


def test_properties_are_read_back_by_java_rules(tmp_path):
    path = tmp_path / "node" / "server.properties"
    write_properties(path, {"log.dirs": " C:\\dätä\n𝄞"})
    assert path.read_text() == "log.dirs=\\ C:\\\\d\\u00e4t\\u00e4\\n\\ud834\\udd1e\n"
    assert path.stat().st_mode & 0o077 == 0


def test_own_properties_go_before_the_built_in_ones(tmp_path):
    nodes = {node: Ports(node, 10 + node, 20 + node) for node in (1, 2, 3)}
    one = server_properties(1, {1: nodes[1]}, tmp_path, {})
    three = server_properties(2, nodes, tmp_path, {"num.io.threads": "9"})
    assert one["offsets.topic.replication.factor"] == one["min.insync.replicas"] == "1"
    assert three["transaction.state.log.replication.factor"] == "3"
    assert three["min.insync.replicas"] == "2"
    assert three["num.io.threads"] == "9"
    assert three["controller.quorum.voters"] == "1@127.0.0.1:21,2@127.0.0.1:22,3@127.0.0.1:23"


@pytest.mark.full
@pytest.mark.kafka
def test_the_commands_start_show_and_stop_it(tmp_path, cached):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stream.cli.main", "broker", *words, "--data-dir", "state"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    started = run("start")
    try:
        assert started.returncode == 0, started.stderr
        servers = started.stdout.strip()
        assert members(servers) == {1}
        again = run("start")
        assert again.stdout.strip() == servers
        assert "already running" in again.stderr
        shown = run("status")
        assert shown.returncode == 0
        assert f"{servers} answers" in shown.stdout
        assert run("start", "--brokers", "3").returncode == 1
    finally:
        stopped = run("stop")
    assert stopped.returncode == 0
    after = run("status")
    assert after.returncode == 1
    assert "intentstream broker start" in after.stderr
    assert after.stderr.count("\n") == 1
    assert run("start", "--property", "nonsense").returncode == 1
    assert run("start", "--nonsense").returncode == 2
