"""A prediction made again from the log and the registry, and what it rests on.

The user's own records, up to the one that led to the prediction, go through the real pipeline; no
other user has a part in a score. A recurrent model's state depends on where the model took over
from the one before it: each place is tried, the latest first, until the published numbers come out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.errors import ModelError
from models.history import AMOUNT_UNIT, Records, SessionRules
from models.inputs.features import F32, FEATURE_VERSION, PROFILE_FEATURES, profile_of, ring_inputs
from models.overflow import Overflow
from models.populations import TIMER
from models.serving.artifact import read_artifact
from models.serving.explain import Attribution, attribute
from models.serving.recalibration import Recalibrator, read_recalibration, recalibrated
from models.serving.registry import Registry
from models.serving.scorer import Scorer
from models.training.warm import warm_network
from schemas.codec import decode_event
from schemas.errors import InvalidMessage
from schemas.outputs import Prediction, Source, SurvivalPoint, TargetScore
from stream.config.targets import targets_of
from stream.config.trust import manifest_check, trusted_keys
from stream.errors import ExplainError
from stream.kafka.rates import current_rates
from stream.kernels.predictions import DIGITS
from stream.operations.explain_log import Parsed, published_prediction, records_of_user
from stream.pipeline.hidden import refresh
from stream.pipeline.readout import readout_of
from stream.pipeline.records import Row
from stream.testing import PipelineDriver, whole_records

if TYPE_CHECKING:
    from models.money import Rates
    from schemas.events import Event
    from stream.config.settings import Settings

PLACES: Final = 256
"""Places at which the model may have taken over that are tried, besides the first event."""


class PastEvent(msgspec.Struct, frozen=True):
    """One event of the history that the model was shown."""

    event_id: str
    type: str
    event_time: int
    item_id: str | None
    attribution: float | None
    """Share of the logit's distance from the baseline; None for a model that reads sums only."""


class Explanation(msgspec.Struct, frozen=True):
    """A prediction, made again and taken apart."""

    prediction_id: str
    user_id: str
    source: Source
    model_version: str
    device: str
    at: int
    """Time of the user's latest event then, or when the timer expired, ms."""
    events: int
    """Of the user, up to the prediction."""
    horizons_ms: dict[str, int]
    """Target -> within which time."""
    profile: dict[str, float]
    """Feature -> its value, `models.inputs.features.PROFILE_FEATURES`."""
    published: dict[str, float] | None
    """Target -> probability as published; null when the prediction is not kept any more."""
    reproduced: dict[str, float]
    """Target -> probability made again."""
    published_wait_ms: int | None
    """Expected time to the next purchase as published; null where there was none."""
    reproduced_wait_ms: int | None
    """The same, made again; null for a model that does not tell it."""
    published_next: dict[str, dict[str, float]]
    """"category", "item" -> name -> probability of being next, as published; empty where there was
    nothing."""
    reproduced_next: dict[str, dict[str, float]]
    """The same, made again."""
    exact: bool | None
    """Whether all numbers are equal to the last published digit; null with nothing to compare."""
    attributions: dict[str, Attribution]
    """Target -> where its logit comes from."""
    history: dict[str, tuple[PastEvent, ...]]
    """Target -> the events shown to the model, oldest first."""


async def explain(settings: Settings, prediction_id: str) -> Explanation:
    """Make a prediction again and take it apart.

    Raises:
        ExplainError: its event or its model is not there any more; says which.
        BrokerError: the log cannot be read.
    """
    asked = Parsed.of(prediction_id)
    # Time is not let pass, so that no timer forgets the user.
    clock = "event" if settings.worker.clock == "event" else "wall"
    settings = settings.model_copy(
        update={
            "worker": settings.worker.model_copy(update={"clock": clock, "emit": "every"}),
            "topics": settings.topics.model_copy(update={"events": asked.source.topic}),
        }
    )
    records = await records_of_user(settings, asked)
    published = await published_prediction(settings, prediction_id, asked, records[-1].timestamp)
    rates = await current_rates(settings)
    return _explain(settings, prediction_id, asked, records, published, rates)


def _explain(
    settings: Settings,
    prediction_id: str,
    asked: Parsed,
    records: list[Row],
    published: Prediction | None,
    rates: Rates,
) -> Explanation:
    registry = Registry(settings.models_dir)
    try:
        folder = registry.resolve(asked.version)
        check = manifest_check(settings.models)
        worker = settings.worker
        scorer = Scorer.load(folder, worker.device, precision=worker.precision, check=check)
        artifact = read_artifact(folder, feature_version=FEATURE_VERSION, check=check)
        if published is not None and published.recalibration is not msgspec.UNSET:
            maps = read_recalibration(
                settings.models_dir,
                asked.version,
                published.recalibration,
                trusted=trusted_keys(settings.models),
                required=settings.models.signature_required,
            )
            scorer.recalibration = Recalibrator(maps, scorer.targets)
    except ModelError as error:
        raise ExplainError(f"{prediction_id}: its model is not at hand: {error}") from error
    if published is not None:
        told = max(map(len, _next(published).values()), default=0)
        worker = worker.model_copy(update={"rank_top": told})
        settings = settings.model_copy(update={"worker": worker})
    driver, prediction = _again(settings, scorer, asked, records, published, rates)
    user = prediction.user_id
    table, overflow = _record(driver, user)
    inputs = ring_inputs(table, np.zeros(1, np.intp), scorer.history_length)
    shown = _shown(records, int(inputs[2][0]))
    network = warm_network(artifact, scorer.targets, settings.state.hidden_size)
    features = _profile(settings, table, overflow, prediction.state_time)[0]
    attributions, history = {}, {}
    inactive = prediction.reason is not msgspec.UNSET
    readout = readout_of(scorer.targets, inactive=inactive)
    for column, target in zip(readout.columns, readout.targets, strict=True):
        found = attribute(network, column, target.name, inputs, features, scorer.reference_profile)
        attributions[target.name] = found
        shares: list[float | None] = [*found.events] or [None] * len(shown)
        history[target.name] = tuple(
            msgspec.structs.replace(event, attribution=share)
            for event, share in zip(shown, shares, strict=False)
        )
    return Explanation(
        prediction_id=prediction_id,
        user_id=user,
        source=asked.source,
        model_version=asked.version,
        device=scorer.device,
        at=prediction.state_time,
        events=int(table["n"][0]),
        horizons_ms={name: score.horizon_ms for name, score in prediction.targets.items()},
        profile=dict(zip(PROFILE_FEATURES, features.tolist(), strict=True)),
        published=None if published is None else _probabilities(published.targets),
        reproduced=_probabilities(prediction.targets),
        published_wait_ms=None if published is None else _wait(published),
        reproduced_wait_ms=_wait(prediction),
        published_next={} if published is None else _next(published),
        reproduced_next=_next(prediction),
        exact=None if published is None else _numbers(published) == _numbers(prediction),
        attributions=attributions,
        history=history,
    )


def _again(
    settings: Settings,
    scorer: Scorer,
    asked: Parsed,
    records: list[Row],
    published: Prediction | None,
    rates: Rates,
) -> tuple[PipelineDriver, Prediction]:
    """The pipeline after the record, and its prediction; as published, if any way leads there."""
    before = Scorer.rhythm(targets_of(settings), device=settings.worker.device)
    last = len(records) - 1
    alone = not scorer.recurrent or published is None
    places = [0] if alone else [0, *range(last, max(last - PLACES, 0), -1)]
    best: tuple[float, int] = (float("inf"), 0)
    # Scores do not depend on batches: all at once is quickest. To the last digit they once did.
    for batch in (len(records), 1):
        for place in places:
            driver, prediction = _run(settings, before, scorer, records, place, asked, batch, rates)
            if published is None or _numbers(published) == _numbers(prediction):
                return driver, prediction
            best = min(best, (_gap(published, prediction), place))
        places = [best[1]]
    return driver, prediction


def _gap(published: Prediction, again: Prediction) -> float:
    """Largest difference of a probability."""
    return max(
        abs(score.probability - again.targets[name].probability)
        for name, score in published.targets.items()
    )


def _run(
    settings: Settings,
    before: Scorer,
    scorer: Scorer,
    records: list[Row],
    place: int,
    asked: Parsed,
    batch: int,
    rates: Rates,
) -> tuple[PipelineDriver, Prediction]:
    """Let the model `before` serve up to `place`, then the one in question."""
    partition = asked.source.partition
    driver = PipelineDriver(
        before if place else scorer,
        settings,
        partition=partition,
        partitions=settings.topics.partitions,
        rates=rates,
    )
    driver.pipe_records(records[:place], batch=batch)
    driver.pipeline.replace_scorer(scorer)
    driver.pipe_records(records[place:], batch=batch)
    for prediction in reversed(driver.predictions()):
        if prediction.source == asked.source and prediction.reason is msgspec.UNSET:
            if asked.at is None:
                return driver, prediction
            return driver, _in_inactivity(driver, prediction, scorer, asked.at)
    source = asked.source
    raise ExplainError(
        f"offset {source.offset} of {source.topic}-{source.partition} led to no prediction: it is"
        " a duplicate, late or invalid"
    )


def _record(driver: PipelineDriver, user: str) -> tuple[Records, Overflow]:
    """The record of a user, as a table of one, and what it holds beyond its ring."""
    record, held = dict(whole_records(driver.store, driver.settings))[user]
    table, overflow = np.array([record]), Overflow(1)
    overflow.put(table, 0, held)
    return table, overflow


def _profile(settings: Settings, table: Records, overflow: Overflow, now: int) -> F32:
    """The profile [1,P] of the only record of a table at a time, ms."""
    sessions = SessionRules(settings.state.session_gap_ms, settings.state.session_max_ms)
    return profile_of(table, np.zeros(1, np.intp), np.array([now]), sessions, overflow)


def _in_inactivity(
    driver: PipelineDriver, prediction: Prediction, scorer: Scorer, now: int
) -> Prediction:
    """What the model predicts of the user of a prediction when a timer expires at ``now``, ms."""
    record, overflow = _record(driver, prediction.user_id)
    rows = np.zeros(1, np.intp)
    # The state of a short history is not stored.
    refresh(record, rows, scorer)
    hidden = record["hidden"][:, : scorer.hidden_size]
    raw = scorer.probabilities(hidden, _profile(driver.settings, record, overflow, now))
    readout = readout_of(scorer.targets, inactive=True)
    said = readout.read(recalibrated(scorer, TIMER, raw))
    scores = (said.scores_NS[0] / 10**DIGITS).tolist()
    names, left = [target.name for target in readout.targets], prediction.survival
    if left is not msgspec.UNSET:
        after = scores[len(names) :]
        left = [SurvivalPoint(p.horizon_ms, s) for p, s in zip(left, after, strict=True)]
    spend = prediction.expected_spend
    return msgspec.structs.replace(
        prediction,
        targets={
            name: TargetScore(score, prediction.targets[name].horizon_ms)
            for name, score in zip(names, scores, strict=False)
        },
        survival=left,
        expected_wait_ms=msgspec.UNSET if left is msgspec.UNSET else int(said.waits[0]),
        expected_spend=None if spend is None else int(said.spend[0]) / AMOUNT_UNIT,
        state_time=now,
        event_time=now,
        next_categories=msgspec.UNSET,
        next_items=msgspec.UNSET,
        reason="timer",
    )


def _shown(records: list[Row], length: int) -> list[PastEvent]:
    """The last events in their order in time, each once."""
    events: dict[str, Event] = {}
    for record in records:
        try:
            event = decode_event(record.value)
        except InvalidMessage:
            continue
        events.setdefault(event.event_id, event)
    ordered = sorted(events.values(), key=lambda event: event.event_time)
    return [
        PastEvent(
            event.event_id,
            str(event.__struct_config__.tag),
            event.event_time,
            event.item_id,
            None,
        )
        for event in ordered[len(ordered) - length :]
    ]


def _probabilities(targets: dict[str, TargetScore]) -> dict[str, float]:
    return {name: score.probability for name, score in targets.items()}


def _wait(prediction: Prediction) -> int | None:
    wait = prediction.expected_wait_ms
    return None if wait is msgspec.UNSET else wait


def _next(prediction: Prediction) -> dict[str, dict[str, float]]:
    """What the user turns to next: "category" and "item", each name -> probability."""
    found: dict[str, dict[str, float]] = {}
    if prediction.next_categories is not msgspec.UNSET:
        categories = prediction.next_categories
        found["category"] = {one.category_id: one.probability for one in categories}
    if prediction.next_items is not msgspec.UNSET:
        found["item"] = {one.item_id: one.probability for one in prediction.next_items}
    return found


def _numbers(prediction: Prediction) -> tuple[object, ...]:
    """All that a model said."""
    wait, left = prediction.expected_wait_ms, prediction.survival
    ranks = prediction.next_categories, prediction.next_items
    return prediction.targets, wait, left, prediction.expected_spend, *ranks
