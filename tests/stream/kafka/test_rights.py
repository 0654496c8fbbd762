from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.config.settings import Settings
from stream.errors import BrokerError
from stream.kafka.rights import check_rights, worker_rights
from tests.secured import SecuredKafka, deployed, run_secured
from tests.stream.kafka_tools import create_topics, unique

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with run_secured(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


async def made(bootstrap: str, **kafka: object) -> Settings:
    name = unique("rights")
    settings = Settings(
        app_id=name,
        kafka={"bootstrap_servers": bootstrap, **kafka},
        topics={kind: f"{name}.{kind}" for kind in ("events", "late", "dead_letter", "propensity",
                "churn", "shadow", "models", "status")},
    )  # fmt: skip
    await create_topics(bootstrap, *worker_rights(settings))
    return settings


async def test_where_everything_is_allowed_nothing_is_missing(kafka) -> None:
    settings = await made(kafka.bootstrap_servers)
    await check_rights(settings, worker_rights(settings))


async def test_missing_rights_are_named_in_one_line(secured: SecuredKafka) -> None:

    settings = await made(secured.internal)
    user = unique("user")
    rights = [
        right
        for right in deployed.rights("worker", settings)
        if not (right.name == settings.changelog and right.operation == "Write")
        and right.name != settings.topics.models
        and right.kind != "group"
    ]
    await asyncio.to_thread(secured.grant, user, rights)
    mine = settings.model_copy(update={"kafka": Settings(kafka=secured.client(user)).kafka})
    with pytest.raises(BrokerError) as caught:
        await check_rights(mine, worker_rights(mine))
    assert str(caught.value) == (
        f"{user} lacks rights: Read on {settings.topics.models}, Write on {settings.changelog},"
        f" Read on group {settings.app_id}; give it those of deploy/acls/rights.toml"
    )


async def test_no_broker_is_said_so() -> None:
    settings = Settings(kafka={"bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(BrokerError, match="does not tell this client's rights"):
        await check_rights(settings, {})


def test_what_a_worker_needs_is_what_it_is_given() -> None:
    settings = Settings()
    given = {
        (right.name, right.operation)
        for right in deployed.rights("worker", settings)
        if right.kind == "topic" and right.operation in {"Read", "Write"}
    }
    needed = worker_rights(settings)
    assert {(name, right) for name, rights in needed.items() for right in rights} <= given


def test_the_data_lies_where_the_message_says() -> None:
    assert Path("deploy/acls/rights.toml").exists()
