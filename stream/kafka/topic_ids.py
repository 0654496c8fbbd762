"""Ids of topics (KIP-516): a topic that is deleted and created again has another one.

Offsets and names do not tell the two apart.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from stream.errors import BrokerError, StreamError
from stream.kafka.clients import failure_of
from stream.kafka.protocol import NO_TOPIC_ID, DescribeTopicIds

_ANSWER_MS: Final = 10_000


async def ask_topic_ids(client: AIOKafkaClient, topics: Sequence[str]) -> dict[str, str]:
    """Return the ids of those topics that the broker shows, as Kafka's own tools print them.

    A broker older than Kafka 2.8 has none: nothing is returned.

    Raises:
        KafkaError: no broker answers.
    """
    try:
        answer = await client.send(client.get_random_node(), DescribeTopicIds(topics))
    except NotImplementedError:
        return {}
    return {
        topic["topic"]: base64.urlsafe_b64encode(topic["topic_id"]).decode().rstrip("=")
        for topic in answer.to_object()["topics"]
        if not topic["error_code"] and topic["topic_id"] != NO_TOPIC_ID
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
