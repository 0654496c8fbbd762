"""The sections of the settings about learning: training, evidence, the gate, outcomes."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from models.fitting.config import Precision, PretrainTask, Schedule
from models.networks import trainable
from schemas.events import MAX_PRICE
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Millis
from stream.config.secure_settings import Section
from stream.config.units import Unit

Share = Annotated[float, Unit("fraction"), Field(ge=0, le=1)]

CHURN_HORIZON_MS = 30 * DAY_MS
NONE = "none"
"""Stands for a target that is not predicted: files of settings have no word for it."""
if TYPE_CHECKING:
    ArchitectureName = str
else:
    # The table of architectures has the names.
    ArchitectureName = Literal[trainable()]
Optional = Annotated[Millis | None, BeforeValidator(lambda value: None if value == NONE else value)]

MAX_BINS = 32
"""Of a wait; each is told with every prediction."""
MAX_VOCABULARY = 65_536
"""As `models.serving.rankings`, whose libraries settings do without."""


class TrainSettings(Section):
    """What the trainer learns and from how much."""

    purchase_horizon_ms: Optional = DAY_MS
    """Label of purchase: a purchase within this time. "none": not predicted."""
    churn_horizon_ms: Optional = CHURN_HORIZON_MS
    """Label of churn: no purchase within this time after an active history. "none": not predicted,
    and no alert is raised."""
    churn_gaps: Annotated[float, Unit("expected gaps"), Field(gt=0, le=1000)] | None = None
    """Makes the horizon of churn the user's own: this many of the user's expected gaps between
    orders (`expected_gap_ms` of alerts), at least churn_floor_ms and at most churn_horizon_ms.
    Unset: churn_horizon_ms for all users."""
    churn_floor_ms: Millis = DAY_MS
    """Shortest horizon of churn of any user, where churn_gaps is set."""
    cart_horizon_ms: Millis | None = None
    """Label of cart: an addition to the cart within this time. Unset: not predicted."""
    favourite_horizon_ms: Millis | None = None
    """Label of favourite: an item marked as favourite within this time. Unset: not predicted."""
    intent: tuple[Literal["purchase", "cart", "leave"], ...] = ()
    """What is predicted at each event of a session: a purchase, an addition to the cart, or that
    the user leaves (no event within state.session_gap_ms). Targets are `purchase_in_session`,
    `cart_15m`, `leave` and so on. Empty: nothing."""
    intent_within: Annotated[
        tuple[Literal["session"] | Annotated[Millis, Field(ge=SECOND_MS)], ...],
        Field(min_length=1),
    ] = ("session",)
    """Label windows of intent: the rest of the session, or lengths of time such as "15m"."""
    intent_longest_ms: Annotated[Millis, Field(ge=MINUTE_MS)] = 2 * HOUR_MS
    """Longest time that counts as the rest of a session: its labels are known after this time."""
    intent_points: Annotated[int, Unit("events per user")] = Field(default=40, ge=1, le=10_000)
    """Most events per user, drawn by hash, that intent is learnt from. Memory grows with it."""
    wait_edges_ms: Annotated[tuple[Millis, ...], Field(max_length=MAX_BINS)] = ()
    """Ends of the bins of time in which the next purchase may come, ascending. Predictions then
    contain the expected time to the next purchase, and the probability that it takes longer than
    each end. Empty: not predicted."""
    spend_cap: (
        Annotated[float, Unit("units of the shop's currency"), Field(gt=0, le=MAX_PRICE)] | None
    ) = None
    """Most that counts of the amount of the purchases within purchase_horizon_ms, which is the
    label of spend. Choose an amount that hardly any user spends. Unset: spend is not
    predicted."""
    task_weights: dict[
        Literal["purchase", "churn", "cart", "favourite", "wait", "spend"],
        Annotated[float, Field(gt=0)],
    ] = Field(default_factory=dict)
    """How much each target counts while a network over sequences learns, 1 where it is not named;
    empty: by the targets' uncertainty. The bins of a wait count as one."""
    architecture: ArchitectureName = "gru"
    """The model that is learnt: a logistic regression, one that also has a purchase process as
    an input (blend), or a network over sequences (the others)."""
    epochs: Annotated[int, Unit("epochs")] = Field(default=20, ge=1)
    """Most passes over the training examples."""
    patience: Annotated[int, Unit("epochs")] = Field(default=6, ge=1)
    """Training stops when this many epochs together gain less than min_gain. A network may need
    several until it learns from the order of events."""
    min_gain: Annotated[float, Unit("log-loss")] = Field(default=1e-4, ge=0)
    """Loss on the stopping part, summed over the targets, that `patience` epochs must gain
    together."""
    batch_size: Annotated[int, Unit("windows")] = Field(default=32, ge=1)
    """Windows per training step."""
    learning_rate: Annotated[float, Unit("step size")] = Field(default=3e-3, gt=0)
    """Learning rate at the peak of the schedule."""
    pretrain_epochs: Annotated[int, Unit("epochs"), Field(ge=0)] | None = None
    """Passes over the log in which a network over sequences learns the task of pretrain_task
    before it sees a label; 0: none. Unset: 4 where train.intent asks for targets of a session, else
    0."""
    pretrain_task: PretrainTask = "masked_event"
    """What is learnt there: next_event predicts each next event, masked_event recovers events that
    are masked from those before and after them."""
    pretrain_mask: Annotated[float, Unit("fraction"), Field(gt=0, lt=1)] = 0.15
    """Share of the events that masked_event masks."""
    next_action_weight: (
        Annotated[float, Unit("multiple of the targets' loss"), Field(ge=0, le=10)] | None
    ) = None
    """Weight of an auxiliary loss while a network over sequences is fitted: at each event it
    predicts the type of the user's next one and whether its category stays the same. At 1 it counts
    as much as all targets together; 0: none. Unset: 0.1 where train.intent asks for targets of a
    session, else 0."""
    oldest_weight: Annotated[float, Unit("fraction"), Field(gt=0, le=1)] = 0.25
    """Weight of the oldest example of a fit, as a share of the newest one's; between them it falls
    exponentially with age, so that a fit follows a shop that changes. 1: age does not matter."""
    schedule: Schedule = "cosine"
    """How the learning rate falls from its peak to zero; "constant": it does not."""
    warm_up: Share = 0.05
    """Share of the steps in which the learning rate rises to its peak."""
    weight_decay: Annotated[float, Unit("share of a weight per unit of learning rate")] = Field(
        default=0.05, ge=0
    )
    """How fast weights shrink without evidence (AdamW's weight decay)."""
    clip_norm: Annotated[float, Unit("gradient norm")] = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient."""
    precision: Precision = "auto"
    """Number format of the training steps: float32, bfloat16, or (auto) bfloat16 on a GPU that
    has it."""
    negatives: Annotated[float, Unit("negative labels per positive one")] = Field(default=0.0, ge=0)
    """Most negative labels per positive one to learn from; 0: all."""
    logistic_penalty: Annotated[float, Unit("penalty per squared weight"), Field(ge=0)] | None = (
        None
    )
    """L2 penalty of the logistic regression and of the blend. Unset: each target's is chosen, from
    0.1 to 1e-5, by its loss on later events of users who are not learnt from."""
    refit: bool = True
    """Once the gate has accepted a fit to the oldest labels, publish a fit to all labels that are
    complete. Training takes up to twice as long. False: the fit that the gate accepted is
    published."""
    rank: tuple[Literal["category", "item"], ...] = ()
    """What of a user's next event is ranked: predictions then contain the most likely categories,
    or items. A ranking is published only where it is better than popularity and than the user's
    latest ones; the model card has the figures."""
    rank_vocabulary: Annotated[int, Unit("entries")] = Field(default=4096, ge=1, le=MAX_VOCABULARY)
    """Most categories, and most items, that can be ranked: the most frequent ones. Each costs
    time of every prediction, and time and memory of the fit."""
    cancel_window_ms: Millis | None = None
    """A purchase refunded in full within this time does not count for labels, which therefore
    wait as long. Unset: a day, but no longer than the longest horizon besides that of churn."""
    max_users: Annotated[int, Unit("users")] = Field(default=100_000, ge=100)
    """Most users to learn from; of more, a half, a quarter and so on is taken by hash."""
    refresh_epochs: Annotated[int, Unit("epochs")] = Field(default=1, ge=1)
    """Most epochs of an incremental training."""
    refresh_rate: Annotated[float, Unit("multiple of train.learning_rate")] = Field(
        default=0.3, gt=0
    )
    """Peak learning rate of an incremental training, as a multiple of learning_rate."""
    replay: Annotated[float, Unit("old examples per new one")] = Field(default=1.0, ge=0)
    """Old examples per new one in an incremental training, so that the model does not lose what
    it learnt."""
    full_every: Annotated[int, Unit("refreshes")] = Field(default=96, ge=1)
    """Incremental trainings after which a model is fitted from the beginning."""
    tensorboard: bool = True
    """Write the curves of every run to data_dir/runs."""
    mlflow_uri: str | None = None
    """Tracking server of MLflow, which needs the project's extra `mlflow`."""
    validation_share: Annotated[float, Unit("fraction"), Field(gt=0, lt=0.5)] = 0.15
    """Share of the log's usable time on which models are calibrated, before the last part."""
    test_share: Annotated[float, Unit("fraction"), Field(gt=0, lt=0.5)] = 0.15
    """Share of the log's usable time, the last part, on which the gate decides."""
    min_windows: Annotated[int, Unit("windows")] = Field(default=200, ge=2)
    """With fewer labelled windows than this training stops with a message."""
    cold_start: bool = True
    """While no trained model serves and a round gives none: fit the purchase process, which needs
    no labels, and publish it as champion, marked `cold_start`, if it predicts the last part of the
    log better than what serves before any model. It raises alerts where it is calibrated there."""
    rollout: Literal["shadow", "canary", "champion"] = "champion"
    """Role in which a new model is published; `intentstream models promote` changes it."""
    canary_share: Share = 0.05
    """Share of users that a canary serves."""
    seed: Annotated[int, Unit("number of a random sequence")] = 7
    """Start of the random numbers: with the same log and seed training repeats."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.purchase_horizon_ms or self.churn_horizon_ms or self.wait_edges_ms):
            raise ValueError(
                "nothing is predicted before the first trained model: set purchase_horizon_ms, "
                "churn_horizon_ms or wait_edges_ms"
            )
        longest = self.churn_horizon_ms
        if self.churn_gaps is not None and (longest is None or self.churn_floor_ms > longest):
            raise ValueError(
                f"churn_gaps needs churn_horizon_ms ({longest}) of at least churn_floor_ms"
                f" ({self.churn_floor_ms})"
            )
        if self.spend_cap is not None and self.purchase_horizon_ms is None:
            raise ValueError("spend_cap needs purchase_horizon_ms, within which spending counts")
        return self

    @field_validator("wait_edges_ms")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if any(end <= begin for begin, end in pairwise((0, *edges))):
            raise ValueError("the bins must end at ascending times above 0")
        return edges


class EvidenceSettings(Section):
    """How much must be known of a user before a prediction is more than a guess.

    Below it predictions are marked `cold_start`, and the gate evaluates these users apart.
    """

    min_events: Annotated[int, Unit("events")] = Field(default=3, ge=0)
    """Events that a user must have."""
    min_orders: Annotated[int, Unit("orders")] = Field(default=0, ge=0)
    """Orders that a user must have."""


class GateSettings(Section):
    """What a new model must show on later data to be published; see `models.training.gate`."""

    confidence: Annotated[float, Unit("fraction"), Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the bootstrap intervals."""
    resamples: Annotated[int, Unit("resamples")] = Field(default=400, ge=50, le=100_000)
    """Bootstrap samples that an interval is computed from."""
    min_points: Annotated[int, Unit("examples")] = Field(default=100, ge=10)
    """A segment with fewer labelled examples is not evaluated."""
    tolerance: Annotated[float, Unit("log-loss")] = Field(default=0.005, ge=0)
    """A model is refused that is surely worse than the champion by more than this log-loss, on
    any segment."""
    max_ece: Share = 0.1
    """Largest expected calibration error allowed."""


class RecalibrateSettings(Section):
    """How a served model is recalibrated under drift; see `models.training.recalibrate`."""

    every_ms: Annotated[Millis, Field(ge=SECOND_MS)] | None = DAY_MS
    """How often the loop of `intentstream train --every` recalibrates, besides after each new
    model. Unset: never."""
    window_ms: Annotated[Millis, Field(ge=DAY_MS)] = 7 * DAY_MS
    """Labels count that became complete within this time before the recalibration, or within four
    times as long where these are too few."""
    least_observed: Annotated[float, Unit("fraction")] = Field(default=0.1, gt=0, le=1)
    """Labels that are still open count by what is known of them as soon as this share of their
    window is over; 1: they do not count."""
    min_labels: Annotated[int, Unit("labels")] = Field(default=300, ge=20)
    """With fewer labels of a target, at events or at timers, its probabilities stay as they
    are."""
    min_users: Annotated[int, Unit("users")] = Field(default=100, ge=20)
    """With labels of fewer users, a target's probabilities stay as they are."""
    tolerance: Annotated[float, Unit("log-loss")] = Field(default=0.001, ge=0)
    """Log-loss by which the interval of a recalibration may exceed the model's own."""


class OutcomeSettings(Section):
    """How `intentstream outcomes` compares predictions with what came."""

    publish_ms: Annotated[Millis, Field(ge=SECOND_MS)] = MINUTE_MS
    """How often figures are published."""
    lookback_ms: Millis = 90 * DAY_MS
    """How far back, by the brokers' time, a start reads. It must be longer than the horizons and
    the usual inter-purchase times."""
    window: Annotated[int, Unit("predictions")] = Field(default=50_000, ge=100)
    """Matured predictions, and evaluated rankings, that a model's rolling figures are computed
    from."""
    max_users: Annotated[int, Unit("users")] = Field(default=500_000, ge=1000)
    """Most users that are followed; of more, every second one is left out, which does not bias
    the figures."""
    min_matured: Annotated[int, Unit("predictions")] = Field(default=500, ge=50)
    """With fewer matured predictions no alarm is raised and no drift is reported."""
    rollback: bool = True
    """Whether a canary that is surely worse than the champion is rolled back."""
    rollback_error: Annotated[float, Unit("fraction"), Field(gt=0, lt=0.5)] = 0.01
    """Probability of rolling back a canary that is no worse than the champion."""
    rollback_users: Annotated[int, Unit("users")] = Field(default=100, ge=10)
    """Users with matured predictions that canary and champion each need before they are
    compared."""
    http_port: Annotated[int, Unit("port")] | None = Field(default=None, ge=0, le=65_535)
    """Port of /health and /metrics, with worker.http_host and worker.http_token; unset: they are
    not served; 0: any free port."""
