"""The risk at which alerts are raised, as learnt for a precision or a budget that was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
import numpy as np

from models.populations import TIMER
from models.targets import CHURN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.steps import F32
    from models.targets import Target

Bound = Literal["precision", "budget"]
"""What a threshold was learnt for."""


@dataclass(frozen=True)
class Wanted:
    """What the threshold is to be learnt for; None: not asked for."""

    precision: float | None = None
    """Share of the raised alerts that is to be right."""
    per_day: float | None = None
    """Alerts a day, of the whole shop, in the treatment arm."""

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self.precision is not None or self.per_day is not None


class Budget(msgspec.Struct, frozen=True):
    """A threshold for a number of alerts a day. Alerts are those of the treatment arm."""

    per_day: float
    """Alerts a day that were asked for, on average."""
    risk: float | None = None
    """Alerts raised from this risk on average the budget; None: none was found."""
    why: str = ""
    days: float = 0.0
    """Length of the window by whose alerts it was found."""
    expected: float | None = None
    """Alerts a day in this window, from the stricter of the learnt thresholds on."""
    median: float | None = None
    """Of the days of the window."""
    high: float | None = None
    """95 % of the days had no more."""


class RaiseAt(msgspec.Struct, frozen=True):
    """Thresholds with what they were found by. Part of a manifest or of a recalibration."""

    precision: float | None
    """Share of the raised alerts that were to be right; None: not asked for."""
    risk: float | None = None
    """Alerts raised from this risk on have the precision; None: none was found, `why` says the
    reason."""
    why: str = ""
    alerts: int = 0
    """That the stricter threshold would have raised on labels that the model did not learn from."""
    users: int = 0
    """Of whom these labels are."""
    right: float = 0.0
    """Share of these alerts that were right."""
    low: float = 0.0
    """Interval of that share, 95 %."""
    high: float = 0.0
    lost: int = 0
    """Orders that none followed in time, among these labels."""
    found: int = 0
    """Of these orders those with an alert."""
    budget: Budget | None = None
    """The threshold for a number of alerts a day, where that was asked for."""
    bound: Bound | None = None
    """Which of the two is the stricter one, and so holds; None: neither was found."""

    @property
    def threshold(self) -> float | None:
        """The stricter one of those that were found."""
        return max(self._risks(), default=None)

    def _risks(self) -> list[float]:
        both = (self.risk, None if self.budget is None else self.budget.risk)
        return [risk for risk in both if risk is not None]


class Maps(Protocol):
    """A recalibration that may have a threshold of its own."""

    raise_at: RaiseAt | None

    def apply(self, population: str, probabilities_NK: F32) -> F32:
        """Probabilities [N,K] of a population, mapped."""


class Raising(Protocol):
    """A model that may have a threshold of its own."""

    targets: tuple[Target, ...]
    raise_at: RaiseAt | None

    @property
    def recalibration(self) -> Maps | None:
        """Maps of its probabilities."""


def lacking(found: RaiseAt) -> Iterator[str]:
    """Yield what was asked for and is not known, and why."""
    if found.precision is not None and found.risk is None:
        yield f"churn.target_precision {found.precision:g}: {found.why}"
    if found.budget is not None and found.budget.risk is None:
        yield f"churn.alert_budget_per_day {found.budget.per_day:g}: {found.budget.why}"


def in_words(found: RaiseAt) -> str:
    """What is asked for, from which risk on alerts are raised, and what they are like."""
    asked = [] if found.precision is None else [f"of precision {found.precision:g}"]
    if found.budget is not None:
        asked.append(f"{found.budget.per_day:g} a day in the treatment arm")
    words = [f"alerts {' and '.join(asked)}: "]
    if found.threshold is None:
        words.append("no threshold was found")
    else:
        words.append(f"raised from a risk of {found.threshold:.4f} on")
        if len(asked) > 1:
            words.append(f", by the {found.bound}")
        if found.budget is not None and found.budget.expected is not None:
            many = found.budget
            words.append(
                f"; {many.expected:.1f} a day are expected (median {many.median:.1f}, 95 % of days"
                f" up to {many.high:.1f}) by the last {many.days:.1f} days"
            )
        if found.alerts:
            words.append(
                f"; on labels that were not learnt from, {found.right:.3f} ({found.low:.3f} to"
                f" {found.high:.3f}) of {found.alerts:,} alerts were right, and {found.found:,} of"
                f" {found.lost:,} lost orders had one"
            )
    words += [f"; not known: {lacks}" for lacks in lacking(found)]
    return "".join(words)


def problems_of(found: RaiseAt | None) -> Iterator[str]:
    """Yield what is wrong in a threshold."""
    if found is None:
        return
    if found.precision is not None and not 0 < found.precision < 1:
        yield f"raise_at.precision is {found.precision}, not between 0 and 1"
    risks = {"risk": found.risk}
    if found.budget is not None:
        risks["budget.risk"] = found.budget.risk
        if not (0 < found.budget.per_day < math.inf):
            yield f"raise_at.budget.per_day is {found.budget.per_day}, not above 0"
    for name, risk in risks.items():
        if risk is not None and not 0 < risk <= 1:
            yield f"raise_at.{name} is {risk}, not above 0 and up to 1"


def threshold_of(model: Raising, wanted: Wanted, otherwise: float) -> float | None:
    """From which risk on a model's alerts are what is asked for; None: that is not known.

    Of a precision and a budget the stricter one holds. Where only one of them is known, `otherwise`
    stands for the other. A recalibration that found no threshold of its own maps the model's, as it
    maps the risks.

    Args:
        model: with or without a recalibration.
        wanted: what is asked for.
        otherwise: the threshold of the settings.
    """
    return None if not wanted else _strictest(_asked(model, wanted), otherwise)[0]


class InEffect(msgspec.Struct, frozen=True):
    """From which risk on a worker raises alerts, and why."""

    risk: float
    by: Literal["setting", "precision", "budget"]
    """`churn.raise_at`, or which learnt threshold is the stricter one."""
    per_day: float | None = None
    """Alerts a day of the treatment arm that are expected from this risk on; None: not known."""


def in_effect(model: Raising, wanted: Wanted, otherwise: float) -> InEffect:
    """What a worker that serves a model goes by; arguments as for `threshold_of`."""
    if not wanted:
        return InEffect(otherwise, "setting")
    risk, by = _strictest(_asked(model, wanted), otherwise)
    if risk is None or by == "setting":
        return InEffect(otherwise, "setting")
    known = model.recalibration
    for found in (None if known is None else known.raise_at, model.raise_at):
        if found is None or found.budget is None or found.precision != wanted.precision:
            continue
        both = found.precision is None or found.risk is not None
        if both and found.budget.per_day == wanted.per_day and found.budget.risk is not None:
            return InEffect(risk, by, found.budget.expected)
    return InEffect(risk, by)


def _asked(model: Raising, wanted: Wanted) -> dict[Bound, float | None]:
    """What is asked for -> the risk that is known for it."""
    risks: dict[Bound, float | None] = {}
    if wanted.precision is not None:
        risks["precision"] = _known(model, lambda found: _for_precision(found, wanted.precision))
    if wanted.per_day is not None:
        risks["budget"] = _known(model, lambda found: _for_budget(found, wanted.per_day))
    return risks


def _strictest(
    risks: dict[Bound, float | None], otherwise: float
) -> tuple[float | None, Literal["setting", "precision", "budget"]]:
    """(the highest risk, of what it is); `otherwise` is that of what is not known."""
    known = {name: risk for name, risk in risks.items() if risk is not None}
    if not known:
        return None, "setting"
    by = max(known, key=lambda name: known[name])
    if len(known) < len(risks) and otherwise > known[by]:
        return otherwise, "setting"
    return known[by], by


def _for_precision(found: RaiseAt, precision: float | None) -> float | None:
    return found.risk if found.precision == precision else None


def _for_budget(found: RaiseAt, per_day: float | None) -> float | None:
    same = found.budget is not None and found.budget.per_day == per_day
    return found.budget.risk if found.budget is not None and same else None


def _known(model: Raising, risk_in: Callable[[RaiseAt], float | None]) -> float | None:
    """The risk of one bound: of the recalibration, else of the model and mapped by it."""
    known, own = model.recalibration, model.raise_at
    if known is not None and known.raise_at is not None:
        later = risk_in(known.raise_at)
        if later is not None:
            return later
    risk = None if own is None else risk_in(own)
    if risk is None or known is None:
        return risk
    column = [target.name for target in model.targets].index(CHURN)
    row = np.full((1, len(model.targets)), 0.5, np.float32)
    row[0, column] = risk
    return float(known.apply(TIMER, row)[0, column])
