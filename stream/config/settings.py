"""The settings as frozen models; `stream.config.loading` reads them.

The sections of what serves are here, those of what learns in `learning_settings.py`, those with
secrets in `secure_settings.py`.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.times import EARLIEST, LATEST
from stream.config.catalog import ENV_DELIMITER, ENV_PREFIX
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
from stream.config.units import Unit
from stream.errors import SettingsError

_MIN_TOKEN = 16
_NAME = r"^[a-zA-Z0-9._-]{1,200}$"


TopicName = Annotated[str, Field(pattern=_NAME)]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


NO_USERS = ("models", "metrics", "status", "rates")
"""Fields of `TopicSettings` of the topics that contain nothing about a user: they have one
partition, and an erasure does not wait for them."""


class TopicSettings(Section):
    """Names and layout of the topics."""

    events: TopicName = "shop.events"
    """Behaviour events, which workers read."""
    late: TopicName = "shop.events.late"
    """Events that came too late to be counted."""
    dead_letter: TopicName = "shop.events.dead-letter"
    """Records that cannot be read as an event, with the reason."""
    propensity: TopicName = "predictions.propensity"
    """Predictions of purchase and of the other targets."""
    churn: TopicName = "alerts.churn"
    """Churn alerts."""
    models: TopicName = "models.published"
    """Announcements of models: the model registry that workers follow. Compacted."""
    shadow: TopicName = "predictions.shadow"
    """Predictions of models that are tried without effect (train.rollout)."""
    metrics: TopicName = "models.metrics"
    """How good each model is, as `intentstream outcomes` measures it."""
    outcomes: TopicName = "alerts.outcomes"
    """What became of each churn alert."""
    erase: TopicName = "users.erase"
    """Requests to erase users."""
    erased: TopicName = "users.erased"
    """Receipts of erasure."""
    rates: TopicName = "shop.rates"
    """Currency rates, where money.rates_topic is set. Compacted."""
    status: TopicName = "intentstream.status"
    """Heartbeats of workers."""
    partitions: Annotated[int, Unit("partitions")] = Field(default=4, ge=1, le=10_000)
    """Partitions of the source, its outputs and its changelog; fixed for the life of the state."""
    replication: Annotated[int, Unit("copies")] = Field(default=1, ge=1, le=15)
    """Copies of each partition; 3 in production."""

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """The fields that name a topic."""
        return tuple(
            name for name, field in cls.model_fields.items() if isinstance(field.default, str)
        )

    @property
    def without_users(self) -> set[str]:
        """Names of the topics that contain nothing about a user."""
        return {getattr(self, kind) for kind in NO_USERS}

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
    """Device that models run on; auto: a GPU where there is one."""
    precision: Literal["float32", "half"] = "float32"
    """Number format of matrix products on a GPU. With "half" a model is refused whose golden
    probabilities change by more than 0.02."""
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    """Whether outputs are written in one transaction with the input's offsets. With
    at_least_once a crash may repeat outputs, under the same ids."""
    emit: Literal["latest", "every"] = "latest"
    """One prediction per user and micro-batch, or one per event; the values are the same."""
    predict_at_timers: bool = False
    """Predict also when a timer evaluates an inactive user (churn.gap_factor,
    churn.recheck_factor), with the reason `timer`. Otherwise the last score of a user who stays
    away is that of the last event, however long ago."""
    rank_top: Annotated[int, Unit("entries")] = Field(default=5, ge=0, le=100)
    """Most next categories, and most next items, in a prediction, where the model ranks them
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
    batch_size: Annotated[int, Unit("records")] = Field(default=4096, ge=1, le=65_536)
    """Most records of one partition in a micro-batch."""
    commit_interval_ms: Millis = 100
    """Shortest time between two commits of a partition; where commits take long, there are fewer.
    With exactly_once consumers see outputs after the commit."""
    max_event_bytes: Annotated[int, Unit("bytes")] = Field(default=1 << 20, ge=64)
    """A larger record value is invalid."""
    max_future_ms: Millis = DAY_MS
    """An event further ahead of its record's Kafka timestamp is refused as `future`. One that is
    ahead by no more than this, but by more than state.grace_ms, counts as of that timestamp, so
    that a wrong clock makes no other event late. Neither is applied on the event clock."""
    earliest_ms: Annotated[int, Unit("ms since 1970")] = Field(default=EARLIEST, ge=1, lt=LATEST)
    """An event from before this time (ms since 1970; 1990-01-01) is refused: it is in seconds or
    days, or of a clock that was never set. A Kafka timestamp from before it counts as none."""
    check_partitioner: bool = True
    """Refuse an event whose partition is not the murmur2 one of its key."""
    cache_records: Annotated[int, Unit("records")] = Field(default=100_000, ge=0)
    """User records kept in memory per worker; each partition of the topic has an equal share."""
    stall_ms: Annotated[Millis, Field(ge=SECOND_MS, le=20 * SECOND_MS)] = 20 * SECOND_MS
    """A part of the worker that makes no progress for this long makes it unready; twice as long
    ends it."""
    http_port: Annotated[int, Unit("port")] | None = Field(default=None, ge=0, le=65_535)
    """Port of /health and /metrics; unset: they are not served; 0: any free port."""
    http_host: str = "127.0.0.1"
    """Address of /health and /metrics; other than loopback only with an http_token."""
    http_token: SecretStr | None = None
    """What readers of the pages must send as `Authorization: Bearer ...`; 16 characters or more."""
    http_token_file: Path | None = None
    """File that holds the http_token and nothing else."""

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
    """A session ends when a user does nothing for this long."""
    session_max_ms: Millis = DAY_MS
    """An event that comes later than this after its session began starts another session."""
    ttl_ms: Millis = 400 * DAY_MS
    """The record of a user who is inactive for this long is deleted."""
    hidden_size: Annotated[int, Unit("numbers per user")] = Field(default=64, ge=1, le=1024)
    """Room for a network's state per user; a model whose state is larger is not served."""
    ring: Annotated[int, Unit("events")] = Field(default=64, ge=1, le=1024)
    """Events per user that are kept one by one: the latest."""
    overflow: Annotated[int, Unit("events")] = Field(default=4096, ge=1, le=1 << 20)
    """Most events per user beyond the ring that are kept while they are within the grace, so that
    any order of them ends in the same state. An event from before the oldest one that is kept
    counts as late."""
    bot_session_events: Annotated[int, Unit("events per session")] = Field(default=1000, ge=0)
    """A user with more events per session, on average, is taken for a program: predictions are
    marked, no alert is raised, and training leaves the user out. 0: no user is."""


class ChurnSettings(Section):
    """When churn alerts are raised, escalated and resolved, and when timers evaluate a user."""

    raise_at: Share = 0.7
    """Risk of churn at which an alert is raised."""
    target_precision: Annotated[float, Unit("fraction"), Field(gt=0, lt=1)] | None = None
    """Share of the raised alerts that is to be right. The trainer, and each recalibration, finds
    the lowest risk with it on labels that were not learnt from. That risk takes the place of
    raise_at, and escalate_at and resolve_at move in proportion. Unset, or where there are too few
    labels: raise_at."""
    alert_budget_per_day: (
        Annotated[float, Unit("alerts"), Field(gt=0, allow_inf_nan=False)] | None
    ) = None
    """Alerts a day, over the whole shop and on average, that there is capacity to act on: those of
    the treatment arm (holdout_share); of a capacity a week a seventh. Learnt as the precision is,
    by how many alerts there would have been in the last days (recalibrate.window_ms, four times).
    With target_precision set too the stricter one holds: fewer alerts. A mean, not a limit of any
    one day."""
    resolve_at: Share = 0.4
    """Risk at or below which an open alert is resolved."""
    escalate_at: Share = 0.9
    """Risk at which a raised alert is escalated, escalate_after_ms after it was raised."""
    dwell_ms: Millis = 0
    """How long the risk must stay above raise_at, without an event, before the alert is raised."""
    raise_on_model_change: bool = False
    """Raise, or escalate, also where only a new model takes the risk over the threshold. By
    default that waits for a later timer, at which the inactivity has raised the risk further."""
    cooldown_ms: Millis = 7 * DAY_MS
    """A user gets no new alert within this time after the last one was closed."""
    escalate_after_ms: Millis = 7 * DAY_MS
    """A raised alert is escalated, at the earliest, when the user has been inactive for this
    long since it was raised."""
    gap_factor: Annotated[float, Unit("expected gaps")] = Field(default=0.25, gt=0)
    """A user is first evaluated after this many of their own expected gaps between purchases. A
    later first evaluation leaves little of the horizon of churn."""
    prior_gap_ms: Millis = 7 * DAY_MS
    """The expected gap assumed of a user with too few purchases to have one."""
    min_gap_ms: Millis = DAY_MS
    """A user is first evaluated after at least this much inactivity, however short the expected
    gaps."""
    min_orders: Annotated[int, Unit("orders")] = Field(default=2, ge=1)
    """A user with fewer orders raises no alert: there is no inter-purchase time to judge by."""
    recheck_factor: Annotated[float, Unit("multiple of the inactivity")] = Field(default=1.25, gt=1)
    """While a user stays inactive, the next evaluation comes when the inactivity is this many
    times as long."""
    raise_in_history: bool = False
    """Raise alerts of history (worker.history_age_ms) too, marked `replayed`. On the event clock
    they are raised in any case."""
    raise_untrained: bool = False
    """Raise alerts also before any model is published, and with a purchase process fitted without
    labels whose check on the log failed (train.cold_start): their risks may be far from the
    truth. Alerts of before a trained model are marked `cold_start`."""
    holdout_share: Share = 0.1
    """Share of users whose alerts are marked as holdout, to measure what acting on alerts
    brings."""
    holdout_salt: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,64}$")
    """Name of the campaign that is measured; another name draws other holdout users."""
    holdout_period_ms: Millis = 90 * DAY_MS
    """The holdout users are drawn again after each such period, counted from 1970, so that none is
    held out for ever; 0: never. An episode keeps the arm in which it was raised."""
    tick_ms: Annotated[Millis, Field(ge=1)] = SECOND_MS
    """Timers expire at multiples of this."""
    replay_tick_ms: Annotated[Millis, Field(ge=1)] = HOUR_MS
    """Timers that follow event time are checked when its clock crosses a multiple of this."""

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
        if self.alert_budget_per_day is not None and self.holdout_share == 1:
            raise ValueError(
                "churn.alert_budget_per_day counts the alerts of the treatment arm, of which there"
                " are none with churn.holdout_share = 1: lower that, or unset the budget"
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
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
    )

    app_id: str = Field(default="intentstream", pattern=_NAME)
    """Names the consumer group, the transactional ids and the changelog."""
    data_dir: Path = Path("var")
    """Folder of the local state: RocksDB and the embedded broker."""
    models_dir: Path = Path("var/models")
    """Folder of the published model artifacts."""
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed and nothing else: `load_settings` reads the environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def changelog(self) -> str:
        """Name of the compacted topic that backs the user records."""
        return f"{self.app_id}.users.changelog"

    @property
    def replayed(self) -> str:
        """Name of the compacted topic that says which dead letters were brought back."""
        return f"{self.topics.dead_letter}.replayed"
