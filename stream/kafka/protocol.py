"""Kafka requests that aiokafka 0.14 does not have; field names and order are those of the protocol.

DescribeProducers and DescribeTransactions (KIP-664) report what a transaction left undecided,
OffsetFetch from version 7 on (KIP-447) does not answer with an offset that a pending transaction
is about to replace. Metadata from version 10 on (KIP-516) has the ids of topics.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_NO_TAGS: Final[dict[int, bytes]] = {}

_UUID_BYTES: Final = 16
NO_TOPIC_ID: Final = bytes(_UUID_BYTES)
"""Stands for no topic id."""

Partitions = list[tuple[str, list[int]]]
"""(topic, partitions of it)."""


class _DescribeProducersResponse(Response):
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", _TEXT),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_start", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeProducersRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = _DescribeProducersResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        _TAGS,
    )


class DescribeProducers(Request[_DescribeProducersRequest]):
    """Which producers a partition knows, and where each one's open transaction begins."""

    API_KEY = 61

    def __init__(self, partitions: Partitions) -> None:
        """`partitions`: led by the broker that is asked; needs Read on their topics."""
        self._partitions = partitions

    def build(
        self, request_struct_class: type[_DescribeProducersRequest]
    ) -> _DescribeProducersRequest:
        """Return the request as sent."""
        topics = [(topic, numbers, _NO_TAGS) for topic, numbers in self._partitions]
        return request_struct_class(topics, _NO_TAGS)


class _DescribeTransactionsResponse(Response):
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _TEXT),
                ("state", _TEXT),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeTransactionsRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = _DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), _TAGS)


class DescribeTransactions(Request[_DescribeTransactionsRequest]):
    """What the coordinator notes of a transactional id."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        """`transactional_id`: coordinated by the broker that is asked."""
        self._transactional_id = transactional_id

    def build(
        self, request_struct_class: type[_DescribeTransactionsRequest]
    ) -> _DescribeTransactionsRequest:
        """Return the request as sent."""
        return request_struct_class([self._transactional_id], _NO_TAGS)


class _OffsetFetchResponse(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )


class _OffsetFetchRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = _OffsetFetchResponse
    SCHEMA = Schema(
        ("group", _TEXT),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class FetchOffsets(Request[_OffsetFetchRequest]):
    """Committed offsets of a group; stable ones are refused while a transaction is pending."""

    API_KEY = 9

    def __init__(self, group: str, partitions: Partitions, *, stable: bool) -> None:
        """`group`: coordinated by the broker that is asked."""
        self._group = group
        self._partitions = partitions
        self._stable = stable

    def build(self, request_struct_class: type[_OffsetFetchRequest]) -> _OffsetFetchRequest:
        """Return the request as sent."""
        topics = [(topic, numbers, _NO_TAGS) for topic, numbers in self._partitions]
        return request_struct_class(self._group, topics, self._stable, _NO_TAGS)


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


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
                _TAGS,
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
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _MetadataRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", _TEXT), _TAGS),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class DescribeTopicIds(Request[_MetadataRequest]):
    """The ids of topics, by their names; aiokafka's own requests end before version 10."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        """`topics`: that are asked for; none is created."""
        self._topics = [(NO_TOPIC_ID, topic, _NO_TAGS) for topic in topics]

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        """Return the request as sent."""
        return request_struct_class(self._topics, False, False, False, _NO_TAGS)
