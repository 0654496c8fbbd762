"""Configuration: frozen models read from the command line, the environment and a TOML file.

An explicit value wins over the environment (`INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS=...`), which
wins over the file, which wins over the default. The sections of what serves are here, those of what
learns in `learning_settings.py`, those with secrets in `secure_settings.py`.
"""

import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableEnvironmentError

from schemas.times import EARLIEST, LATEST
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Millis
from stream.config.learning_settings import (
    EvidenceSettings,
    GateSettings,
    OutcomeSettings,
    RecalibrateSettings,
    Share,
    TrainSettings,
)
from stream.config.money_settings import MoneySettings
from stream.config.secure_settings import (
    KafkaSettings,
    ModelSettings,
    PrivacySettings,
    Section,
    one_source,
    read_secret,
)
from stream.errors import SettingsError

_MIN_TOKEN = 16
_NAME = r"^[a-zA-Z0-9._-]{1,200}$"


TopicName = Annotated[str, Field(pattern=_NAME)]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TopicSettings(Section):
    """Names and layout of the topics."""

    events: TopicName = "shop.events"
    late: TopicName = "shop.events.late"
    dead_letter: TopicName = "shop.events.dead-letter"
    propensity: TopicName = "predictions.propensity"
    churn: TopicName = "alerts.churn"
    models: TopicName = "models.published"
    shadow: TopicName = "predictions.shadow"
    metrics: TopicName = "models.metrics"
    outcomes: TopicName = "alerts.outcomes"
    erase: TopicName = "users.erase"
    erased: TopicName = "users.erased"
    rates: TopicName = "shop.rates"
    status: TopicName = "intentstream.status"
    partitions: int = Field(default=4, ge=1, le=10_000)
    """Partitions of the source, its outputs and its changelog; fixed for the life of the state."""
    replication: int = Field(default=1, ge=1, le=15)
    """Copies of each partition; 3 in production."""

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """The fields that name a topic."""
        return tuple(
            name for name, field in cls.model_fields.items() if isinstance(field.default, str)
        )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [getattr(self, kind) for kind in self.kinds()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two topics share the name {', '.join(twice)}: name them apart")
        return self


class WorkerSettings(Section):
    """How a worker consumes, scores and commits."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "half"] = "float32"
    """Of matrix products on a GPU; a model whose golden probabilities "half" moves by more than
    0.02 is refused."""
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    emit: Literal["latest", "every"] = "latest"
    """A prediction per user and micro-batch, or one per event; the values are the same."""
    predict_at_timers: bool = False
    """A prediction also when a timer evaluates an inactive user (churn.gap_factor,
    churn.recheck_factor), with the reason `timer`: otherwise the last score of a user who stays
    away is that of the last event, however long ago."""
    rank_top: int = Field(default=5, ge=0, le=100)
    """Next categories, and next items, that a prediction tells, at most, where the model ranks them
    (train.rank); 0: none."""
    clock: Literal["auto", "wall", "event"] = "auto"
    """What timers follow: the wall clock, the clock of event times, or (auto) of each user that of
    the latest event: the wall clock, but the clock of event times where the event is history."""
    history_age_ms: Millis = DAY_MS
    """An event that reaches Kafka later than this after it happened is history."""
    history_gap_ms: Millis = 30 * DAY_MS
    """Events of history no further apart than this are one stretch without an outage;
    one that ends no further than this before live events, or before now, goes on with them: its
    users follow the wall clock once it is loaded. Users of older history are left as they are."""
    batch_size: int = Field(default=4096, ge=1, le=65_536)
    """Most records of one partition in a micro-batch."""
    commit_interval_ms: Millis = 100
    """Between two commits of a partition, at least; where they take long, there are fewer. Exactly
    once, outputs are seen with the commit."""
    max_event_bytes: int = Field(default=1 << 20, ge=64)
    """A larger record value is invalid."""
    max_future_ms: Millis = DAY_MS
    """An event further ahead of its record's Kafka timestamp is refused as `future`. One that is
    ahead by no more than this, but by more than state.grace_ms, counts as of that timestamp, so
    that a wrong clock makes no other event late. Neither is applied on the event clock."""
    earliest_ms: int = Field(default=EARLIEST, ge=1, lt=LATEST)
    """An event from before this time (ms since 1970; 1990-01-01) is refused: it is in seconds or
    days, or of a clock that was never set. A Kafka timestamp from before it counts as none."""
    check_partitioner: bool = True
    """Refuse an event whose partition is not the murmur2 one of its key."""
    cache_records: int = Field(default=100_000, ge=0)
    """User records kept in memory per worker; each partition of the topic has an equal share."""
    stall_ms: Annotated[Millis, Field(ge=SECOND_MS, le=20 * SECOND_MS)] = 20 * SECOND_MS
    """A part of the worker that makes no progress for this long makes it unready; twice as long
    ends it."""
    http_port: int | None = Field(default=None, ge=0, le=65_535)
    """Where /health and /metrics are served; none: nowhere; 0: any free port."""
    http_host: str = "127.0.0.1"
    """Other than loopback only with an http_token."""
    http_token: SecretStr | None = None
    """What readers of the pages must send as `Authorization: Bearer ...`; 16 characters or more."""
    http_token_file: Path | None = None

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        one_source(self.http_token, self.http_token_file, "http_token")
        if not (self.http_token or self.http_token_file) and not _is_loopback(self.http_host):
            raise ValueError(
                f"http_host {self.http_host} can be reached from other machines: set http_token, or"
                " leave http_host at 127.0.0.1"
            )
        return self

    def http_secret(self) -> str | None:
        """Return the pages' token, None where none is asked for.

        Raises:
            SettingsError: it cannot be read or is too short.
        """
        token = read_secret(self.http_token, self.http_token_file, "worker.http_token")
        if token is not None and len(token) < _MIN_TOKEN:
            raise SettingsError(
                f"worker.http_token has {len(token)} characters, at least {_MIN_TOKEN} are needed:"
                " make one with `openssl rand -hex 16`"
            )
        return token


class StateSettings(Section):
    """The per-user record. Changing hidden_size or ring changes its layout."""

    grace_ms: Millis = 10 * MINUTE_MS
    """How far behind the user's own latest event an event may arrive."""
    correction_ms: Millis = 2 * DAY_MS
    """A purchase or refund that comes after the grace (a till's, an ERP's) counts as of the user's
    latest event, which is when it came to be known, if it is at most this much older than that
    event and among the user's newest events (ring). 0: it is late as other events are."""
    session_gap_ms: Millis = 30 * MINUTE_MS
    session_max_ms: Millis = DAY_MS
    ttl_ms: Millis = 400 * DAY_MS
    """A user silent for this long is forgotten."""
    hidden_size: int = Field(default=64, ge=1, le=1024)
    ring: int = Field(default=64, ge=1, le=1024)
    """Events of a user's history that are kept one by one."""
    overflow: int = Field(default=4096, ge=1, le=1 << 20)
    """Events of a user beyond the ring, at most, that are kept while they are within the grace, so
    that any order of them ends in the same state. What belongs before the oldest one that is kept
    then counts as late."""
    bot_session_events: int = Field(default=1000, ge=0)
    """A user with more events per session, on average, is taken for a program: predictions say so,
    no alert is raised, and training leaves the user out. 0: nobody is."""


class ChurnSettings(Section):
    """When churn alerts are raised, escalated and resolved, and when timers evaluate a user."""

    raise_at: Share = 0.7
    target_precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the raised alerts that is to be right. The trainer, and each recalibration, finds
    the lowest risk with it on labels that were not learnt from; it takes the place of raise_at, and
    escalate_at and resolve_at lie as far from it in proportion. Unset, or where there are too few
    labels: raise_at."""
    resolve_at: Share = 0.4
    escalate_at: Share = 0.9
    dwell_ms: Millis = 0
    """How long the risk must stay above raise_at, without an event, before the alert is raised."""
    raise_on_model_change: bool = False
    """Raise, or escalate, also where nothing but a new model takes the risk over the threshold. By
    default that waits for a later timer, at which the inactivity has raised the risk further."""
    cooldown_ms: Millis = 7 * DAY_MS
    """No new alert of a user within this time after the last one was closed."""
    escalate_after_ms: Millis = 7 * DAY_MS
    gap_factor: float = Field(default=0.25, gt=0)
    """A user is first evaluated after this many of their own expected gaps between purchases.
    A later first look leaves little of the horizon of churn."""
    prior_gap_ms: Millis = 7 * DAY_MS
    """The expected gap assumed of a user with too few purchases to have one."""
    min_gap_ms: Millis = DAY_MS
    min_orders: int = Field(default=2, ge=1)
    """A user with fewer orders has no rhythm to break and raises no alert."""
    recheck_factor: float = Field(default=1.25, gt=1)
    """While inactivity lasts, the next evaluation comes after this multiple of it so far."""
    raise_in_history: bool = False
    """Raise alerts of history (worker.history_age_ms) too; on the event clock they are in any case.
    They are marked `replayed`."""
    raise_untrained: bool = False
    """Raise alerts also by what serves before any model is published, and by a purchase process
    fitted without labels whose check on the log failed (train.cold_start): their risks may be far
    from the truth. Alerts of before a trained model are marked `cold_start`."""
    holdout_share: Share = 0.1
    """Users whose alerts are marked as holdout, to measure what acting on alerts brings."""
    holdout_salt: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,64}$")
    """Names the campaign that is measured: with another one other users are held out."""
    holdout_period_ms: Millis = 90 * DAY_MS
    """The holdout users are drawn again after each such period, counted from 1970, so that none is
    held out for ever; 0: never. An episode keeps the arm in which it was raised."""
    tick_ms: Annotated[Millis, Field(ge=1)] = SECOND_MS
    """Timers are due on multiples of this."""
    replay_tick_ms: Annotated[Millis, Field(ge=1)] = HOUR_MS
    """Timers that follow event time are looked at when its clock crosses a multiple of this."""

    def raising_at(self, risk: float | None) -> Self:
        """The same rules with another `raise_at`; None: as they are.

        `resolve_at` keeps its share of it, and `escalate_at` of what is left up to 1.
        """
        if risk is None:
            return self
        left = (self.escalate_at - self.raise_at) / (1 - self.raise_at) if self.raise_at < 1 else 1
        changed = {
            "raise_at": risk,
            "resolve_at": risk * self.resolve_at / self.raise_at,
            "escalate_at": risk + (1 - risk) * left,
        }
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.replay_tick_ms % self.tick_ms:
            raise ValueError(
                f"churn.replay_tick_ms ({self.replay_tick_ms}) must be a multiple of churn.tick_ms"
                f" ({self.tick_ms})"
            )
        if not self.resolve_at < self.raise_at <= self.escalate_at:
            raise ValueError(
                f"churn thresholds must satisfy resolve_at < raise_at <= escalate_at, but are"
                f" {self.resolve_at}, {self.raise_at}, {self.escalate_at}"
            )
        return self


class Settings(BaseSettings):
    """The whole configuration; see the sections for what each value means."""

    model_config = SettingsConfigDict(
        env_prefix="INTENTSTREAM_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
    )

    app_id: str = Field(default="intentstream", pattern=_NAME)
    """Names the consumer group, the transactional ids and the changelog."""
    data_dir: Path = Path("var")
    """Local state: RocksDB and the embedded broker."""
    models_dir: Path = Path("var/models")
    """Where published model artifacts lie."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    worker: WorkerSettings = WorkerSettings()
    state: StateSettings = StateSettings()
    churn: ChurnSettings = ChurnSettings()
    train: TrainSettings = TrainSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    gate: GateSettings = GateSettings()
    recalibrate: RecalibrateSettings = RecalibrateSettings()
    outcomes: OutcomeSettings = OutcomeSettings()
    models: ModelSettings = ModelSettings()
    privacy: PrivacySettings = PrivacySettings()
    money: MoneySettings = MoneySettings()

    @property
    def changelog(self) -> str:
        """Name of the compacted topic that backs the user records."""
        return f"{self.app_id}.users.changelog"

    @property
    def replayed(self) -> str:
        """Name of the compacted topic that says which dead letters were brought back."""
        return f"{self.topics.dead_letter}.replayed"


def load_settings(
    config: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read the settings: overrides before the environment before the TOML file `config`.

    Args:
        config: TOML file with the tree of `Settings`; none: no file.
        overrides: nested like `Settings`, e.g. `{"kafka": {"bootstrap_servers": "..."}}`; a value
            of None means "not given".

    Raises:
        SettingsError: names every setting that is wrong, and the file when it cannot be read.
    """
    tree: dict[str, Any] = {}
    if config is not None:
        try:
            tree = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"cannot read the settings file {config}: {error}") from error
    try:
        tree = _merged(tree, EnvSettingsSource(Settings)())
        return Settings(**_merged(tree, overrides or {}))
    except UnreadableEnvironmentError as error:
        raise SettingsError(f"cannot read the INTENTSTREAM_ environment: {error}") from error
    except ValidationError as error:
        # The input is left out of the message: it may be a secret.
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        where = f" (from {config}, the environment or the command line)" if config else ""
        raise SettingsError(f"wrong settings{where}: {'; '.join(problems)}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        current = merged.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            merged[key] = _merged(current, value)
        elif isinstance(value, Mapping):
            merged[key] = _merged({}, value)
        elif value is not None:
            merged[key] = value
    return merged
