"""The topics: what must exist, how it is made, and how an existing layout is checked.

A worker's guarantees rest on the layout: the changelog and every output have the partitions of the
source (a partition's records, outputs and offsets go into one transaction of its owner), what is
state is compacted, and what is a log is not.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from stream.config.durations import DAY_MS, HOUR_MS
from stream.config.settings import Settings
from stream.errors import BrokerError, TopicLayoutError
from stream.kafka.diagnosis import denied, unusable
from stream.kafka.rights import hidden_topics

_REQUEST_MS = 15_000
_SETTLE_S = 20.0
_POLL_S = 0.1
_MIB = 1 << 20
_OVERHEAD = 64 << 10
_FOR_EVER_MS = 2**62
_NO_BOUND = -1
"""Of a topic's retention; 0 would be none at all."""
_CONFIGS = (
    "cleanup.policy",
    "delete.retention.ms",
    "max.compaction.lag.ms",
    "message.timestamp.type",
    "retention.ms",
    "segment.ms",
)
_LET_IN = 8
"""Multiple of the largest valid event that the broker still takes."""

PARTITIONS_CHANGED = (
    "a user's events are then not where the user's state is; copy the events to a new topic with as"
    " many partitions as wanted, and process it under a new app_id"
)

T = TypeVar("T")


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must be.

    Attributes:
        name: of the topic.
        partitions: exactly this many.
        replication: at least this many copies.
        config: what the topic is created with; of an existing one only cleanup.policy must agree.
        follows_source: co-partitioned with the source.
    """

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    follows_source: bool = False

    @property
    def cleanup(self) -> str:
        """Cleanup policy: "compact" for state, "delete" for logs."""
        return self.config["cleanup.policy"]


@dataclass(frozen=True)
class _Found:
    partitions: int
    replication: int
    cleanup: frozenset[str]
    timestamps: str
    kept_ms: int | None


def required_topics(settings: Settings) -> list[TopicSpec]:
    """Return every topic of the application, the source first."""
    topics = settings.topics
    keep = settings.state.ttl_ms or _NO_BOUND
    largest = settings.worker.max_event_bytes

    def spec(name: str, **config: object) -> TopicSpec:
        texts = _config(settings, config)
        single = name in topics.without_users
        partitions = 1 if single else topics.partitions
        follows = not single and name != topics.events
        return TopicSpec(name, partitions, topics.replication, texts, follows)

    def log(name: str, retention_ms: int, **config: object) -> TopicSpec:
        return spec(name, cleanup_policy="delete", retention_ms=retention_ms, **config)

    # By the brokers' times a rate finds its place among the events. One that was replaced stays
    # beside the newer one for as long as events that were converted by it may be read again.
    rates = spec(
        topics.rates,
        cleanup_policy="compact",
        message_timestamp_type="LogAppendTime",
        min_compaction_lag_ms=settings.state.ttl_ms or _FOR_EVER_MS,
    )
    return [
        # The broker's own time stamps: producers' clocks decide neither retention nor timers.
        # Values far beyond the bound are let in, so that they end among the dead letters.
        log(
            topics.events,
            keep,
            message_timestamp_type="LogAppendTime",
            max_message_bytes=max(_LET_IN * largest, _MIB) + _OVERHEAD,
        ),
        # Both copy original bytes up to a bound that keeps the message below 1 MiB.
        log(topics.late, 30 * DAY_MS, max_message_bytes=_MIB + _OVERHEAD),
        log(topics.dead_letter, 30 * DAY_MS, max_message_bytes=_MIB + _OVERHEAD),
        log(topics.propensity, 7 * DAY_MS),
        log(topics.churn, 90 * DAY_MS),
        # Bounded lag: an erased user's last record must leave the disk in foreseeable time.
        spec(settings.changelog, cleanup_policy="compact", max_compaction_lag_ms=DAY_MS),
        spec(topics.models, cleanup_policy="compact"),
        log(topics.shadow, 7 * DAY_MS),
        log(topics.outcomes, 90 * DAY_MS),
        spec(topics.metrics, cleanup_policy="compact", segment_ms=HOUR_MS),
        # By the brokers' times a request finds its place among the events.
        log(topics.erase, keep, message_timestamp_type="LogAppendTime"),
        log(topics.erased, keep),
        spec(topics.status, cleanup_policy="compact", segment_ms=HOUR_MS),
        *([rates] if settings.money.rates_topic else []),
    ]


def replayed_topic(settings: Settings) -> TopicSpec:
    """Return the notes of which dead letters were brought back; made by the first replay."""
    config = _config(settings, {"cleanup_policy": "compact"})
    return TopicSpec(settings.replayed, 1, settings.topics.replication, config)


def _config(settings: Settings, config: dict[str, object]) -> dict[str, str]:
    texts = {key.replace("_", "."): str(value) for key, value in config.items()}
    replicated = settings.topics.replication > 2  # noqa: PLR2004
    texts["min.insync.replicas"] = "2" if replicated else "1"
    texts["unclean.leader.election.enable"] = "false"
    return texts


async def create_topics(settings: Settings, specs: list[TopicSpec] | None = None) -> list[str]:
    """Create what is missing, then check everything; return the names that were created.

    Args:
        settings: where, and the layout.
        specs: the topics; all required ones unless given.

    Raises:
        BrokerError: no broker answers, or it refuses a topic.
        TopicLayoutError: a topic that was already there is laid out differently.
    """
    specs = specs or required_topics(settings)
    async with _admin(settings) as admin:
        found = await _retried(lambda: _describe(admin, specs), settings)
        missing = [spec for spec in specs if spec.name not in found]
        created = await _create(admin, missing, settings) if missing else []
        # Brokers learn of new topics one after the other, also of those that another starter made.
        deadline = asyncio.get_running_loop().time() + _SETTLE_S
        while len(found) < len(specs) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL_S)
            found = await _retried(lambda: _describe(admin, specs), settings)
    _raise_problems(specs, found, settings)
    return created


async def check_topics(settings: Settings) -> dict[str, int | None]:
    """Check that every topic exists and is laid out as the worker needs it.

    Returns:
        Topic -> for how long at most a record stays in it, or in a compacted one the record that
        another has replaced, ms; None: for ever.

    Raises:
        BrokerError: no broker answers.
        TopicLayoutError: names every problem and its remedy.
    """
    specs = required_topics(settings)
    async with _admin(settings) as admin:
        found = await _retried(lambda: _describe(admin, specs), settings)
    missing = [spec.name for spec in specs if spec.name not in found]
    if missing and isinstance(error := await absent(settings, missing), BrokerError):
        raise error
    _raise_problems(specs, found, settings)
    return {name: topic.kept_ms for name, topic in found.items()}


def copies_kept_ms(settings: Settings, kept_ms: dict[str, int | None]) -> dict[str, int | None]:
    """Of what `check_topics` returns, the topics that hold copies of what a user did or was told.

    Requests to forget a user, and the receipts, hold no more than the user's id.
    """
    without_users = settings.topics.without_users
    return {name: kept for name, kept in kept_ms.items() if name not in without_users}


@contextlib.asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**settings.kafka.client_options(), request_timeout_ms=_REQUEST_MS)
    try:
        try:
            await admin.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise await unusable(settings.kafka, error) from error
        yield admin
    finally:
        await admin.close()


async def _retried(ask: Callable[[], Awaitable[T]], settings: Settings) -> T:
    """Ask again while a broker is just going or coming."""
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    while True:
        try:
            return await ask()
        except (KafkaError, OSError, TimeoutError) as error:
            retriable = getattr(error, "retriable", True)
            if not retriable or asyncio.get_running_loop().time() > deadline:
                raise await unusable(settings.kafka, error) from error
        await asyncio.sleep(_POLL_S)


async def _create(
    admin: AIOKafkaAdminClient, specs: list[TopicSpec], settings: Settings
) -> list[str]:
    topics = [
        NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=spec.config)
        for spec in specs
    ]
    try:
        answer = await admin.create_topics(topics, timeout_ms=_REQUEST_MS)
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerError(
            f"cannot create topics: {denied(error, settings.kafka) or str(error) or repr(error)}"
        ) from error
    created, refused, forbidden = [], [], []
    for name, code, *message in answer.topic_errors:
        if code == 0:
            created.append(name)
        elif for_code(code) is TopicAuthorizationFailedError:
            forbidden.append(name)
        elif for_code(code) is not TopicAlreadyExistsError:
            why = message[0] if message and message[0] else for_code(code).__name__
            refused.append(f"{name}: {why}")
    if forbidden:
        user = settings.kafka.sasl_username or "this client"
        raise BrokerError(
            f"{user} lacks the right Create on topic {', '.join(forbidden)}: give it those of"
            " deploy/acls/rights.toml"
        )
    if refused:
        raise BrokerError(
            f"the cluster refuses to create {'; '.join(refused)}: check topics.replication"
            " against the number of brokers, and this client's rights"
        )
    return created


async def _describe(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> dict[str, _Found]:
    existing = set(await admin.list_topics()) & {spec.name for spec in specs}
    if not existing:
        return {}
    described = await admin.describe_topics(sorted(existing))
    wanted = dict.fromkeys(_CONFIGS, "")
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in sorted(existing)
    ]
    configs: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(f"{name}: {message}")
            configs[name] = {entry[0]: entry[1] or "" for entry in entries}
    found = {}
    for topic in described:
        if topic["error_code"]:
            raise for_code(topic["error_code"])(topic["topic"])
        copies = [len(partition["replicas"]) for partition in topic["partitions"]]
        config = configs[topic["topic"]]
        found[topic["topic"]] = _Found(
            len(copies),
            min(copies),
            frozenset(config["cleanup.policy"].split(",")),
            config["message.timestamp.type"],
            _kept_ms(config),
        )
    return found


def _kept_ms(config: dict[str, str]) -> int | None:
    """For how long a record, or one that is replaced, can stay by a topic's configuration."""

    def bound(name: str) -> int | None:
        value = int(config[name])
        return value if 0 <= value < _FOR_EVER_MS else None

    if "compact" in config["cleanup.policy"]:
        # A tombstone in its turn stays until it is compacted away.
        times = [bound("max.compaction.lag.ms"), bound("delete.retention.ms")] * 2
    else:
        # A segment goes as a whole, with its newest record.
        times = [bound("retention.ms"), bound("segment.ms")]
    return None if None in times else sum(time for time in times if time is not None)


async def absent(settings: Settings, names: list[str]) -> BrokerError | TopicLayoutError:
    """Return the error to raise about topics that the broker does not show."""
    try:
        hidden = await hidden_topics(settings, names)
    except (KafkaError, OSError):
        hidden = []
    if hidden:
        user = settings.kafka.sasl_username or "this client"
        return BrokerError(
            f"{user} may not see topic {', '.join(hidden)}: give it the rights of"
            " deploy/acls/rights.toml"
        )
    return TopicLayoutError([missing_topic(name) for name in names])


def missing_topic(name: str) -> str:
    """What to do about a topic that the broker does not have."""
    return f"topic {name} is missing: run `intentstream topics create`"


def _raise_problems(specs: list[TopicSpec], found: dict[str, _Found], settings: Settings) -> None:
    source, state = found.get(specs[0].name), found.get(settings.changelog)
    problems = [missing_topic(spec.name) for spec in specs if spec.name not in found]
    counted: set[str] = set()
    if source and state and source.partitions != state.partitions:
        problems.append(
            f"topic {specs[0].name} has {source.partitions} partitions but {settings.changelog},"
            f" the state of this app_id, has {state.partitions}: {PARTITIONS_CHANGED}"
        )
        counted = {specs[0].name, settings.changelog}
    problems += [
        problem
        for spec in specs
        if spec.name in found
        for problem in [
            *([] if spec.name in counted else _wrong_count(spec, found[spec.name], source)),
            *_problems(spec, found[spec.name]),
        ]
    ]
    if problems:
        raise TopicLayoutError(problems)


def _wrong_count(spec: TopicSpec, found: _Found, source: _Found | None) -> list[str]:
    # Where the source has another count than the settings say, it is the settings that are wrong.
    partitions = source.partitions if source and spec.follows_source else spec.partitions
    if found.partitions == partitions:
        return []
    remedy = (
        f"set topics.partitions to {found.partitions}"
        if found is source
        else "delete it and run `intentstream topics create`, or choose another name for it"
    )
    return [f"topic {spec.name} has {found.partitions} partitions, not {partitions}: {remedy}"]


def _problems(spec: TopicSpec, found: _Found) -> list[str]:
    problems = []
    if found.replication < spec.replication:
        problems.append(
            f"topic {spec.name} has {found.replication} copies, not {spec.replication}: reassign"
            " its partitions (kafka-reassign-partitions), or lower topics.replication"
        )
    if found.cleanup != {spec.cleanup}:
        loses = (
            "the last record of a key must never be deleted"
            if spec.cleanup == "compact"
            else "compaction would drop all but the last record of a key"
        )
        problems.append(
            f"topic {spec.name} has cleanup.policy={','.join(sorted(found.cleanup))}, and {loses}:"
            f" set cleanup.policy={spec.cleanup}"
        )
    stamped = spec.config.get("message.timestamp.type", found.timestamps)
    if found.timestamps != stamped:
        problems.append(
            f"topic {spec.name} has message.timestamp.type={found.timestamps}, and producers'"
            " clocks must decide neither timers nor what a user's erasure covers: set it to"
            f" {stamped}"
        )
    return problems
