"""The whole program over TLS and SCRAM with the rights of deploy/acls, and not one more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from models.serving.scorer import RHYTHM_VERSION
from models.serving.signing import generate_key
from schemas.codec import encode
from schemas.events import Purchase
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter, LateEvent
from stream.config.settings import Settings
from tests import logs
from tests.e2e.secured_shop import PASSWORD, SecuredShop
from tests.e2e.shop import wait_until
from tests.e2e.world import PROGRAM, run_program
from tests.models.shop import shop_log
from tests.secured import ROOT, SecuredKafka, run_secured
from tests.stream.training_tools import messages

pytestmark = pytest.mark.kafka

RULE = re.compile(
    r"Principal = User:(\S+) is Allowed .*StandardAcl\[resourceType=(\w+), resourceName=(\S+),"
    r" patternType=(\w+),.* operation=(\w+),"
)
DENIED = re.compile(r"Principal = \S+ is Denied.*")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with run_secured(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


LATE = Purchase(event_id="late", user_id="u1", event_time=1_500_000_000_000, price=1.0)


@pytest.mark.full
def test_every_component_does_its_work_with_its_rights_and_needs_each(  # noqa: PLR0915
    secured: SecuredKafka, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    generate_key(key)
    shop = SecuredShop(
        tmp_path,
        secured,
        worker={"clock": "event", "emit": "every", "device": "cpu"},
        churn={"raise_at": 0.05, "raise_untrained": True, "resolve_at": 0.01, "min_orders": 1},
        train={
            "min_windows": 50,
            "architecture": "logistic",
            "purchase_horizon_ms": "3d",
            "churn_horizon_ms": "10d",
        },
        # So small a shop proves little of any model.
        gate={"confidence": 0.55, "tolerance": 1.0, "max_ece": 0.5},
        models={"trusted_keys": [f"{key}.pub"], "signing_key": str(key)},
        money={"currency": "EUR", "rates_topic": True},
    )
    world, topics = shop.world, shop.settings.topics
    shop.run("topics-admin", "topics", "create")
    shop.run("topics-admin", "topics", "check")
    rates = tmp_path / "rates.csv"
    rates.write_text("date,currency,rate\n1990-01-01,JPY,0.0064\n")
    assert "1 rates" in shop.run("rates", "rates", "publish", str(rates))
    log = messages(shop_log(users=250, days=80))
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(value for _, value in log))
    shop.run("producer", "produce", str(file), "--format", "jsonl")
    shop.send([(b"u1", b"{"), (b"u1", encode(LATE))])

    config = world.config
    shop.config("worker").rename(config)
    worker = world.start_worker(**{PASSWORD: shop.password("worker")})
    world.wait_committed(len(log) + 2)
    told = shop.run("trainer", "train", "--device", "cpu", "--json", "-")
    version = json.loads(told)["version"]
    shop.run("trainer", "models", "promote", version)
    wait_until(lambda: "model is swapped" in worker.said())

    lines = shop.run(
        "subscriber", "watch", "predictions", "--from-beginning", "--limit", "3", "--json"
    )
    assert len([msgspec.json.decode(x, type=Prediction) for x in lines.splitlines()]) == 3
    lines = shop.run("subscriber", "watch", "alerts", "--from-beginning", "--limit", "1", "--json")
    msgspec.json.decode(lines, type=ChurnAlert)
    asyncio.run(one_of_a_group(shop))
    report = json.loads(shop.run("operator", "status", "--json"))
    assert report["lag"] == 0
    assert report["published"] == version
    assert report["totals"]["invalid"] == 1
    assert version in shop.run("operator", "watch", "models", "--limit", "1")
    assert "truncated" in shop.run(
        *("operator", "watch", "dead-letter", "--from-beginning", "--limit", "1")
    )
    assert json.loads(shop.run("eraser", "erase", "u2", "--json"))["forgotten"]
    shop.run("trainer", "train", "--device", "cpu")
    shop.run("trainer", "models", "promote", version, "--to", "shadow")
    worker.stop()
    # A worker without its folder needs to read the changelog.
    shutil.rmtree(shop.settings.data_dir)
    newest = Purchase(event_id="new", user_id="u1", event_time=1_700_000_000_000, price=1.0)
    later = msgspec.structs.replace(LATE, event_id="later")
    shop.send([(b"u1", encode(event)) for event in (later, newest)])
    worker = world.start_worker(**{PASSWORD: shop.password("worker")})
    world.wait_committed(len(log) + 4)
    worker.stop()
    (scored,) = world.read(topics.shadow, Prediction)
    assert scored.model_version == version
    told = shop.run("explainer", "explain", scored.prediction_id, "--json", "-")
    assert json.loads(told)["exact"]
    told = shop.run("outcomes", "outcomes", "--once", "--json")
    assert {json.loads(line)["model_version"] for line in told.splitlines()} >= {RHYTHM_VERSION}
    shop.run("trainer", "models", "rollback", version)
    assert len(world.read(topics.dead_letter, DeadLetter)) == 1
    assert len(world.read(topics.late, LateEvent)) == 2
    assert len(world.read(topics.propensity, Prediction)) == len(log) + 1

    # The dead letter comes back once, repaired.
    letters = shop.run("replayer", "dlq", "show", "--json").splitlines()
    repaired = [json.loads(line) | {"event": json.loads(encode(LATE))} for line in letters]
    repairs = tmp_path / "repaired.jsonl"
    repairs.write_text("".join(json.dumps(line) + "\n" for line in repaired))
    for replayed in (1, 0):
        told = shop.run("replayer", "dlq", "replay", "--from", str(repairs), "--json")
        assert json.loads(told)["replayed"] == replayed

    said = secured.log.read_text(encoding="utf-8")
    assert DENIED.findall(said) == []
    used = {match.groups() for match in RULE.finditer(said)}
    assert shop.granted() - used == set(), "rights that nobody needs"

    sent = secured.relay.conversations
    assert sum(each.sent for each in sent) > sum(len(value) for _, value in log)
    assert [each.not_tls for each in sent if each.not_tls is not None] == []


@pytest.mark.full
@pytest.mark.parametrize(
    ("component", "arguments", "told"),
    [
        ("eraser", ("produce", "FILE", "--format", "jsonl"), r"may not see topic \S+events"),
        (
            "operator",
            ("produce", "FILE", "--format", "jsonl"),
            r"lacks the right Write on the topic",
        ),
        ("producer", ("status",), r"may not see topic .*status"),
        ("producer", ("watch", "alerts", "--limit", "1"), r"may not see topic \S+churn"),
        ("producer", ("train",), r"cannot read .*lacks a right on topic \S+events"),
        ("trainer", ("worker",), r"lacks a right on topic \S+erase: give it"),
        ("subscriber", ("erase", "u1"), r"may not see topic \S+erase"),
        ("operator", ("dlq", "replay", "--all"), r"lacks the right Create on topic \S+replayed"),
    ],
)
def test_a_missing_right_is_named(
    secured: SecuredKafka,
    refused: SecuredShop,
    component: str,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    file = refused.folder / "one.jsonl"
    file.write_bytes(encode(LATE))
    words = [str(file) if word == "FILE" else word for word in arguments]
    done = run_program(
        *(*words, "--config", str(refused.config(component))),
        **{PASSWORD: refused.password(component)},
    )
    assert done.returncode == 1, done.stdout
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("intentstream: ")]
    assert re.search(told, line), line
    assert "broker start" not in line


@pytest.fixture(scope="module")
def refused(secured: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> SecuredShop:
    shop = SecuredShop(tmp_path_factory.mktemp("refused"), secured, worker={"device": "cpu"})
    shop.run("topics-admin", "topics", "create")
    shop.send([(b"u1", encode(LATE))])
    return shop


async def one_of_a_group(shop: SecuredShop) -> None:
    settings = Settings(kafka=shop.broker.client(shop.users["subscriber"]))
    consumer = AIOKafkaConsumer(
        shop.settings.topics.propensity,
        group_id=f"{shop.settings.app_id}-subscriber-test",
        auto_offset_reset="earliest",
        **settings.kafka.client_options(),
    )
    async with consumer:
        await consumer.getone()
        await consumer.commit()


def test_the_commands_for_kafkas_own_tools_are_printed() -> None:
    done = subprocess.run(
        [sys.executable, "deploy/acls/rights.py", "worker", "User:me"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert (
        "$KAFKA_ACLS --add --allow-principal User:me --operation Write --transactional-id"
        " intentstream- --resource-pattern-type prefixed"
    ) in lines
    assert any("--topic shop.events " in f"{line} " for line in lines)


KEY = "the key of the pseudonyms, which nobody is to see"


@pytest.mark.full
def test_secrets_and_users_are_shown_nowhere(secured: SecuredKafka, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    shop = SecuredShop(
        tmp_path,
        secured,
        worker={"clock": "event", "emit": "every", "device": "cpu"},
        privacy={"pseudonym_key_file": str(tmp_path / "key")},
    )
    world, topics = shop.world, shop.settings.topics
    shop.run("topics-admin", "topics", "create")
    log = [
        msgspec.structs.replace(event, user_id=f"raw-{event.user_id}", event_id=f"e{i}")
        for i, event in enumerate(logs.shop_log(3, 400))
    ]
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(map(encode, log[:200])))
    shop.run("producer", "produce", str(file), "--format", "jsonl")
    assert not any(b"raw-" in r.key + r.value for r in world.raw(topics.events))

    # Others still send the users' own ids.
    shop.config("worker").rename(world.config)
    secrets = {PASSWORD: shop.password("worker")}
    worker = world.start_worker(PROGRAM, "--log-level", "debug", **secrets)
    shop.send([(e.user_id.encode(), encode(e)) for e in log[200:]])
    shop.send([(b"raw-user-1", b'{"user_id":"raw-user-1"'), (b"raw-bob", encode(log[0]))])
    world.wait_committed(len(log) + 2)

    pid = worker.process.pid
    assert listening(pid) == []
    assert connected_to(pid) == {secured.relay.port}
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    status = shop.run("operator", "status", "--json") + shop.run("operator", "status")
    worker.stop()
    said = worker.said()
    assert "Request to 127.0.0.1" in said, "the libraries were not asked for everything"
    assert "SaslAuthenticateRequest" in said
    for secret in (shop.password("worker"), KEY):
        assert secret.encode() not in command
        assert secret not in said
        assert repr(secret)[1:-1] not in said
        assert secret not in status
    assert "raw-" not in said
    names = [topics.late, topics.dead_letter, topics.propensity, topics.churn, topics.status]
    written = [r for name in [*names, shop.settings.changelog] for r in world.raw(name)]
    assert written
    for record in written:
        assert b"raw-" not in (record.key or b"") + (record.value or b"")
    assert {x.value for x in world.read(topics.dead_letter, DeadLetter)} == {b""}
    pseudonyms = shop.settings.privacy.pseudonyms
    assert pseudonyms is not None
    assert all(pseudonyms.made(user) for user in world.records())
    assert len(world.read(topics.propensity, Prediction)) == len(log)


def listening(pid: int) -> list[str]:
    """Local addresses on which a process takes connections."""
    return [local for local, _, state in sockets(pid) if state == "0A"]


def connected_to(pid: int) -> set[int]:
    """Ports to which a process has connections."""
    return {int(other.rpartition(":")[2], 16) for _, other, state in sockets(pid) if state == "01"}


def sockets(pid: int) -> Iterator[tuple[str, str, str]]:
    """(local address, remote address, state) of a process's TCP sockets, as the kernel writes."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(descriptor.readlink().name)
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in own:
                yield words[1], words[2], words[3]
