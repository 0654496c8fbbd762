"""Whether the cluster lets a worker do its work: asked before it begins.

A right that is missing would show late, at the first alert or the next recovery, and as an error of
whatever happens to meet it first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

from stream.config.settings import Settings
from stream.errors import BrokerError
from stream.kafka.diagnosis import why

_ANSWER_MS: Final = 5_000
_SETTLE_S: Final = 20.0
_POLL_S: Final = 0.2
_READ, _WRITE = "Read", "Write"
_BITS: Final = {_READ: 1 << 3, _WRITE: 1 << 4}
"""Operation -> its bit in what the broker says is allowed."""
_HIDDEN: Final = 29
"""Error code of a topic that one may not even describe."""


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataRequest(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _Allowed(Request[_MetadataRequest]):
    """Which operations on topics the client is allowed; aiokafka's own requests cannot ask."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class(self._topics, False, False, True)


class _GroupsResponse(Response):
    API_KEY = 15
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", String("utf-8")),
                ("state", String("utf-8")),
                ("protocol_type", String("utf-8")),
                ("protocol", String("utf-8")),
                (
                    "members",
                    Array(
                        ("member_id", String("utf-8")),
                        ("client_id", String("utf-8")),
                        ("client_host", String("utf-8")),
                        ("member_metadata", Bytes),
                        ("member_assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _GroupsRequest(RequestStruct):
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = _GroupsResponse
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class _AllowedOnGroup(Request[_GroupsRequest]):
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_GroupsRequest]) -> _GroupsRequest:
        return request_struct_class([self._group], True)


def worker_rights(settings: Settings) -> dict[str, set[str]]:
    """Topic -> what a worker does with it."""
    topics = settings.topics
    rights: dict[str, set[str]] = {settings.changelog: {_READ, _WRITE}}
    rights |= {name: {_READ} for name in (topics.events, topics.models, topics.erase)}
    if settings.money.rates_topic:
        rights[topics.rates] = {_READ}
    written = (
        topics.late,
        topics.dead_letter,
        topics.propensity,
        topics.churn,
        topics.shadow,
        topics.erased,
        topics.status,
    )
    return rights | {name: {_WRITE} for name in written}


async def check_rights(settings: Settings, needed: Mapping[str, set[str]]) -> None:
    """Check that this client may use the topics so, and may join the workers' group.

    Args:
        settings: of the cluster and the group.
        needed: topic -> "Read" and "Write" as they are needed; all of them exist.

    Raises:
        BrokerError: a right is missing, all of them in one line; or no broker answers.
    """
    missing: list[str] = []
    client = AIOKafkaClient(**settings.kafka.client_options(), request_timeout_ms=_ANSWER_MS)
    try:
        await client.bootstrap()
        missing += await _patiently(lambda: _missing(client, needed))
        missing += await _patiently(lambda: _missing_on_group(client, settings.app_id))
    except (KafkaError, OSError) as error:
        raise BrokerError(
            f"the broker does not tell this client's rights: {await why(settings.kafka, error)}"
        ) from error
    finally:
        await client.close()
    if missing:
        user = settings.kafka.sasl_username or "this client"
        raise BrokerError(
            f"{user} lacks rights: {', '.join(missing)}; give it those of deploy/acls/rights.toml"
        )


async def hidden_topics(settings: Settings, topics: Sequence[str]) -> list[str]:
    """Return those of the topics that this client may not even see, whether they exist or not.

    Raises:
        KafkaError: no broker answers.
    """
    client = AIOKafkaClient(**settings.kafka.client_options(), request_timeout_ms=_ANSWER_MS)
    try:
        await client.bootstrap()
        answer = await client.send(client.get_random_node(), _Allowed(sorted(topics)))
    finally:
        await client.close()
    found = answer.to_object()["topics"]
    return [topic["topic"] for topic in found if topic["error_code"] == _HIDDEN]


async def _patiently(ask: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Ask again while brokers come and go, and while the cluster sets its coordinator up."""
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    while True:
        try:
            return await ask()
        except (KafkaError, OSError) as error:
            retriable = getattr(error, "retriable", True)
            if not retriable or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_POLL_S)


async def _missing(client: AIOKafkaClient, needed: Mapping[str, set[str]]) -> list[str]:
    answer = await client.send(client.get_random_node(), _Allowed(sorted(needed)))
    missing = []
    for topic in answer.to_object()["topics"]:
        name, code = topic["topic"], topic["error_code"]
        if code not in {0, _HIDDEN}:
            raise for_code(code)(name)
        allowed = topic["authorized_operations"] if code == 0 else 0
        missing += [f"{right} on {name}" for right in needed[name] if not allowed & _BITS[right]]
    return sorted(missing)


async def _missing_on_group(client: AIOKafkaClient, group: str) -> list[str]:
    lacking = [f"{_READ} on group {group}"]
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        (found,) = (await client.send(node, _AllowedOnGroup(group))).to_object()["groups"]
        if found["error_code"]:
            raise for_code(found["error_code"])(group)
    except GroupAuthorizationFailedError:
        return lacking
    return [] if found["authorized_operations"] & _BITS[_READ] else lacking
