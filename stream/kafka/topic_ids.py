"""Ids of topics (KIP-516): a topic that is deleted and created again has another one.

Offsets and names do not tell the two apart. aiokafka's own metadata requests end before version 10,
which brings the ids.
"""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from stream.errors import BrokerError, StreamError
from stream.kafka.clients import failure_of

_ANSWER_MS: Final = 10_000
_UUID_BYTES: Final = 16
_NO_ID: Final = bytes(_UUID_BYTES)


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


_TEXT = CompactString("utf-8")


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _TEXT),
                ("port", Int32),
                ("rack", _TEXT),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", _TEXT), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Ids(Request[_MetadataRequest]):
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        no_tags: dict[int, bytes] = {}
        self._topics = [(_NO_ID, topic, no_tags) for topic in topics]

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class(self._topics, False, False, False, {})


async def ask_topic_ids(client: AIOKafkaClient, topics: Sequence[str]) -> dict[str, str]:
    """Return the ids of those topics that the broker shows, as Kafka's own tools print them.

    A broker older than Kafka 2.8 has none: nothing is returned.

    Raises:
        KafkaError: no broker answers.
    """
    try:
        answer = await client.send(client.get_random_node(), _Ids(topics))
    except NotImplementedError:
        return {}
    return {
        topic["topic"]: base64.urlsafe_b64encode(topic["topic_id"]).decode().rstrip("=")
        for topic in answer.to_object()["topics"]
        if not topic["error_code"] and topic["topic_id"] != _NO_ID
    }


async def topic_ids(
    client_options: dict[str, Any],
    topics: Sequence[str],
    otherwise: type[StreamError] = BrokerError,
) -> dict[str, str]:
    """Connect, and do `ask_topic_ids`.

    Raises:
        ClusterUnreachable: no broker answers.
        StreamError: one refuses; of class `otherwise`.
    """
    client = AIOKafkaClient(**client_options, request_timeout_ms=_ANSWER_MS)
    try:
        await client.bootstrap()
        return await ask_topic_ids(client, topics)
    except KafkaError as error:
        raise failure_of(error, otherwise)(
            f"the ids of {', '.join(topics)} cannot be asked for: {error!r}"
        ) from error
    finally:
        await client.close()


def replaced(noted: dict[str, str], present: dict[str, str]) -> list[str]:
    """Return the topics that are noted under another id than they have."""
    return [topic for topic, found in present.items() if noted.get(topic, found) != found]
