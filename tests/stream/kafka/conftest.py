"""Fixtures of the tests of the clients."""

import pytest
from aiokafka import TopicPartition

from tests.conftest import Kafka
from tests.stream.kafka_tools import create_topics, unique


@pytest.fixture
async def tp(kafka: Kafka) -> TopicPartition:
    """The partition of a new topic."""
    name = unique("tp")
    await create_topics(kafka.bootstrap_servers, name)
    return TopicPartition(name, 0)
