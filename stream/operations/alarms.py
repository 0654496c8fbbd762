"""What needs a look: faults that heartbeats tell of, and drift of the models that serve now."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from models.money import Amounts, mixed_fault, unpriced_faults
from stream.pipeline.event_times import zone_faults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.control import ModelPublished, WorkerStatus
    from schemas.monitoring import ModelMetrics

__all__ = ["alarms_of"]

SEVERE: Final = 0.25
"""Stability index from which on inputs have drifted; see `models.monitoring.drift`."""
_UPDATED: Final = attrgetter("updated_at")
NAMED: Final = 3
"""Inputs that an alarm about drift names."""


def alarms_of(
    live: Sequence[WorkerStatus],
    metrics: Mapping[str, ModelMetrics],
    published: ModelPublished | None,
) -> list[str]:
    """One line each.

    Args:
        live: the last heartbeats of live workers.
        metrics: of models by their versions.
        published: the model that was announced last.
    """
    return [
        *_of_models(live, metrics, published),
        *_of_clocks(live),
        *_of_amounts(live),
        *_of_partitions(live),
        *_of_overflow(live),
        *_of_inputs([beat for beat in live if not _is_replaced(beat, published)]),
    ]


def _of_models(
    live: Sequence[WorkerStatus],
    metrics: Mapping[str, ModelMetrics],
    published: ModelPublished | None,
) -> list[str]:
    current = [beat for beat in live if not _is_replaced(beat, published)]
    served = {beat.model_version for beat in current} | {beat.canary_version for beat in live}
    return [
        f"{version}: {alarm}"
        for version, found in metrics.items()
        if version in served
        for alarm in found.alarms
    ]


def _is_replaced(beat: WorkerStatus, published: ModelPublished | None) -> bool:
    """Whether another model was published for all users after this heartbeat."""
    if published is None or published.rollout != "champion":
        return False
    return beat.model_version != published.version and beat.updated_at < published.published_at


def _of_amounts(live: Sequence[WorkerStatus]) -> list[str]:
    amounts = Amounts()
    for beat in live:
        amounts.add(Amounts(beat.currencies, beat.unpriced))
    unset = any(beat.currency is None for beat in live)
    mixed = mixed_fault(amounts.foreign) if unset else None
    return [*([mixed] if mixed else []), *unpriced_faults(amounts.unpriced)]


def _of_clocks(live: Sequence[WorkerStatus]) -> list[str]:
    offsets: Counter[int] = Counter()
    for beat in live:
        offsets.update({int(offset): count for offset, count in beat.offsets.items()})
    ahead = sum(beat.ahead for beat in live)
    alarms = zone_faults(ahead, sum(beat.behind for beat in live), offsets)
    if ahead:
        alarms.append(
            f"{ahead:,} events were ahead of their arrival by more than the grace and count as"
            " of their arrival: check the clocks of the producers"
        )
    return [*alarms, *_of_producers(live)] if alarms else []


def _of_producers(live: Sequence[WorkerStatus]) -> list[str]:
    """Who sends times that are off: by type, and where an example lies."""
    kinds: Counter[str] = Counter()
    for beat in live:
        kinds.update(beat.skewed)
    if not kinds:
        return []
    named = ", ".join(f"{name} {count:,}" for name, count in kinds.most_common())
    newest = max((beat for beat in live if beat.skewed_at is not None), key=_UPDATED, default=None)
    where = ""
    if newest is not None:
        where = (
            f"; the last one lies at offset {newest.skewed_at} of partition {newest.partition}: its"
            " fields and headers tell who sent it"
        )
    return [f"events whose times are ahead or hours behind, by type: {named}{where}"]


def _of_partitions(live: Sequence[WorkerStatus]) -> list[str]:
    return [
        f"partition {beat.partition}: blocked by an open transaction at offset"
        f" {beat.blocked_at}, {beat.high_water - beat.blocked_at} records wait behind it"
        for beat in live
        if beat.blocked_at is not None
    ]


def _of_overflow(live: Sequence[WorkerStatus]) -> list[str]:
    refused = sum(beat.overflow for beat in live)
    if not refused:
        return []
    told = (
        f"{refused:,} events were within the grace, but a user had more than state.overflow newer"
        " ones, so they did not count (reason overflow on the late topic), and which ones depends"
        " on the order of arrival: raise state.overflow, or find the program that sends so many"
    )
    return [told]


def _of_inputs(current: Sequence[WorkerStatus]) -> list[str]:
    """One line per model about all of its inputs that have drifted, the worst first."""
    worst: dict[str, dict[str, float]] = {}
    for beat in current:
        of_model = worst.setdefault(beat.model_version, {})
        for name, index in beat.stability.items():
            if index > max(SEVERE, of_model.get(name, 0.0)):
                of_model[name] = index
    return [_drifted(version, found) for version, found in worst.items() if found]


def _drifted(version: str, indices: Mapping[str, float]) -> str:
    found = sorted(indices.items(), key=lambda pair: -pair[1])
    named = ", ".join(f"{name} {index:.2f}" for name, index in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    have = "has" if len(found) == 1 else "have"
    return (
        f"{version}: {len(found)} of its inputs {have} drifted since its training (stability index"
        f" above {SEVERE}): {named}{more}"
    )
