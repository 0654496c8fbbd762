import json

import pytest

from stream.cli.main import main
from stream.config.settings import WorkerSettings
from stream.health.health import Health, PartitionHealth, answer
from stream.health.web import WebServer


@pytest.fixture
def ask(capsys, monkeypatch):
    """Runs the command against pages that say what a test wants."""
    servers = []

    def run(*arguments, ready=True, problems=(), **settings):
        partition = PartitionHealth(
            partition=1, state="opening", step="restoring at 10 of 99", offset=7, lag=3
        )
        health = Health(
            ready=ready,
            phase="running",
            worker="w1",
            model="gru-1",
            problems=problems,
            partitions=(partition,),
        )
        server = WebServer(
            WorkerSettings(http_port=0, **settings), lambda: answer(health), lambda: b""
        )
        server.start()
        servers.append(server)
        capsys.readouterr()  # the log line of the server
        with pytest.raises(SystemExit) as ended:
            main(["health", "--port", str(server.port), *arguments])
        return ended.value.code, capsys.readouterr()

    yield run
    for server in servers:
        server.close()


def test_a_ready_worker(ask):
    code, said = ask()
    assert code == 0
    assert said.out.splitlines() == [
        "w1: ready (running), model gru-1",
        "  partition 1: opening (restoring at 10 of 99), offset 7, 3 behind",
    ]


def test_a_worker_that_stands_still(ask):
    code, said = ask(ready=False, problems=("shop.events-0 commit: no progress for 21 s",))
    assert code == 1
    assert "not ready" in said.out
    assert "no progress for 21 s" in said.out


def test_as_json(ask):
    code, said = ask("--json", ready=False)
    assert code == 1
    assert json.loads(said.out)["partitions"][0]["lag"] == 3


def test_the_token_comes_from_the_settings(ask, monkeypatch):
    token = "a-token-of-the-test"
    code, said = ask(http_token=token)
    assert code == 1
    assert "answers 401" in said.err
    monkeypatch.setenv("INTENTSTREAM_WORKER__HTTP_TOKEN", token)
    assert ask(http_token=token)[0] == 0


def test_nobody_there(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["health", "--port", "1"])
    assert ended.value.code == 1
    assert "no worker answers at 127.0.0.1:1" in capsys.readouterr().err


def test_no_port_known(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["health"])
    assert ended.value.code == 1
    assert "worker.http_port" in capsys.readouterr().err
