"""Which partitioner a client uses, by where its keyed records lie.

Clients disagree about the partition of a key (docs/clients.md). Each of them is a hash of the key,
so a few records in wrong partitions tell which one it was, and with it the setting that mends it.
Pure.

Sources: librdkafka 2.12 `rd_kafka_msg_partitioner_consistent`; sarama 1.61 `hashPartitioner`;
kafka-go 0.4.51 `Hash`, `ReferenceHash`; Kafka's `Utils.murmur2` and `BuiltInPartitioner`.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from stream.kernels.buffers import as_array
from stream.kernels.events import murmur2

__all__ = ["ClientShare", "Sample", "fnv1a", "partition_by", "shares"]

Partitioner = Callable[[bytes, int], int]
"""(key, number of partitions) -> partition."""

CRC32: Final = "CRC32"
FNV1A: Final = "FNV-1a"
FNV1A_MASKED: Final = "FNV-1a, masked"
UNSIGNED_MURMUR2: Final = "murmur2, unsigned"
NO_HASH: Final = "none of these"

_SIGN: Final = 1 << 31
_MASK: Final = _SIGN - 1
_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193
_ROUNDS: Final = 100
_ERROR: Final = 1e-3
"""Share of a client's records that may lie elsewhere, an explicit partition for instance."""
_CHANCE: Final = 1e-3
"""Matches that chance alone brings more often than this say nothing."""


class Sample(NamedTuple):
    """A keyed record that lies in another partition than murmur2 of its key says."""

    key: bytes
    partition: int
    partitions: int
    """How many the topic has."""


class ClientShare(msgspec.Struct, frozen=True):
    """Records in wrong partitions that one kind of client seems to have sent."""

    partitioner: str
    """What the hashes say; "none of these" of a client that ignores the key or names partitions."""
    share: float
    """Of the records that were looked at."""
    matches: int
    """Different keys that lie where this partitioner puts them."""
    keys: int
    """Different keys that were looked at."""
    chance: float
    """Probability of so many matches of a client that ignores the key; 1 of "none of these"."""
    remedy: str
    """The setting that mends it."""


def fnv1a(key: bytes) -> int:
    """FNV-1a of a key, 32 bits, unsigned."""
    found = _FNV_OFFSET
    for byte in key:
        found = ((found ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return found


def _signed(value: int) -> int:
    return value - 2 * _SIGN if value & _SIGN else value


def _crc32(key: bytes, partitions: int) -> int:
    return zlib.crc32(key) % partitions


def _fnv1a(key: bytes, partitions: int) -> int:
    # Go's remainder has the sign of the dividend, and a negative one is negated.
    return abs(_signed(fnv1a(key))) % partitions


def _fnv1a_masked(key: bytes, partitions: int) -> int:
    return (fnv1a(key) & _MASK) % partitions


def _unsigned_murmur2(key: bytes, partitions: int) -> int:
    return (int(murmur2(as_array(key), 0, len(key))) & 0xFFFFFFFF) % partitions


PARTITIONERS: Final[Mapping[str, Partitioner]] = {
    CRC32: _crc32,
    FNV1A: _fnv1a,
    FNV1A_MASKED: _fnv1a_masked,
    UNSIGNED_MURMUR2: _unsigned_murmur2,
}
REMEDIES: Final[Mapping[str, str]] = {
    CRC32: "librdkafka's default (confluent-kafka, rdkafka, node-rdkafka, kcat):"
    " partitioner=murmur2_random, in node-rdkafka in the second argument of Producer",
    FNV1A: "sarama's default, kafka-go's Hash: NewMurmur2Partitioner in sarama,"
    " Murmur2Balancer{} in kafka-go",
    FNV1A_MASKED: "sarama's NewReferenceHashPartitioner, kafka-go's ReferenceHash:"
    " NewMurmur2Partitioner in sarama, Murmur2Balancer{} in kafka-go",
    UNSIGNED_MURMUR2: "@platformatic/kafka's default: partitioner: compatibilityPartitioner",
    NO_HASH: "a client that ignores the key (kafka-go's default: Murmur2Balancer{}), sends none"
    " that it hashes, or names partitions itself",
}


def partition_by(partitioner: str, key: bytes, partitions: int) -> int:
    """The partition of a key by one of `PARTITIONERS`."""
    return PARTITIONERS[partitioner](key, partitions)


@dataclass(frozen=True)
class _Group:
    """Equal samples: a key in a partition, however often."""

    count: int
    likelihoods: tuple[float, ...]
    """Per partitioner and, last, of none: probability of this partition, given a wrong one."""
    matches: tuple[bool, ...]


def shares(samples: Iterable[Sample]) -> list[ClientShare]:
    """Which clients seem to have sent records to wrong partitions, the greatest share first.

    The shares are those of a mixture of clients under which the samples are likeliest (EM). A key
    that lies somewhere by chance lies where a given partitioner puts it once in (partitions - 1)
    times, so that a few keys say nothing: what chance explains is counted as "none of these". With
    two partitions there is only one wrong one, and no client can be identified.
    """
    groups = [_group(sample, count) for sample, count in Counter(samples).items()]
    if not groups:
        return []
    allowed = _distinct(groups)
    while True:
        weights = _mixture(groups, allowed)
        found = [
            _share(groups, place, weights[place], name) for place, name in enumerate(PARTITIONERS)
        ]
        doubtful = max(
            ((each.chance, place) for place, each in enumerate(found) if allowed[place]),
            default=(0.0, 0),
        )
        if doubtful[0] <= _CHANCE:
            break
        # One at a time: what it claimed may be another's.
        allowed[doubtful[1]] = False
    kept = [each for each, may in zip(found, allowed, strict=True) if may and each.share >= _ERROR]
    rest = 1.0 - sum(each.share for each in kept)
    if rest >= _ERROR:
        kept.append(ClientShare(NO_HASH, rest, 0, len(groups), 1.0, REMEDIES[NO_HASH]))
    return sorted(kept, key=lambda each: -each.share)


def _distinct(groups: list[_Group]) -> list[bool]:
    """Which partitioners explain anything that no earlier or better one explains."""
    hits = [
        frozenset(n for n, group in enumerate(groups) if group.matches[place])
        for place in range(len(PARTITIONERS))
    ]
    return [
        not any(
            mine < other or (mine == other and before < place)
            for before, other in enumerate(hits)
            if before != place
        )
        for place, mine in enumerate(hits)
    ]


def _group(sample: Sample, count: int) -> _Group:
    others = max(sample.partitions - 1, 1)
    matches = tuple(
        hashed(sample.key, sample.partitions) == sample.partition
        for hashed in PARTITIONERS.values()
    )
    likelihoods = tuple(1 - _ERROR if hit else _ERROR / others for hit in matches)
    return _Group(count, (*likelihoods, 1 / others), matches)


def _mixture(groups: list[_Group], allowed: list[bool]) -> list[float]:
    """Shares of the partitioners and, last, of none."""
    may = [*allowed, True]
    weights = [1 / sum(may) if each else 0.0 for each in may]
    total = sum(group.count for group in groups)
    for _ in range(_ROUNDS):
        sums = [0.0] * len(weights)
        for group in groups:
            parts = [w * p for w, p in zip(weights, group.likelihoods, strict=True)]
            whole = sum(parts)
            for place, part in enumerate(parts):
                sums[place] += group.count * part / whole
        weights = [each / total for each in sums]
    return weights


def _share(groups: list[_Group], place: int, share: float, name: str) -> ClientShare:
    """What one partitioner explains; by chance alone each key would match once in `others`."""
    hits = sum(group.matches[place] for group in groups)
    odds = sum(group.likelihoods[-1] for group in groups) / len(groups)
    chance = 1.0 if odds >= 1 else _tail(len(groups), hits, odds)
    return ClientShare(name, share, hits, len(groups), chance, REMEDIES[name])


def _tail(trials: int, hits: int, odds: float) -> float:
    """Probability of at least so many hits."""
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(odds)
        + (trials - k) * math.log1p(-odds)
        for k in range(hits, trials + 1)
    ]
    return min(sum(map(math.exp, logs)), 1.0)
