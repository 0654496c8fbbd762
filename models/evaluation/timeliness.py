"""Do alerts by the published churn model find leavers sooner than rules of equal precision?

The trainer learns from the log up to a cut. Of every order from then on the churn model is asked at
the moments at which the engine's timers evaluate a user, and alerts the first time that its risk
reaches a threshold. The rules are asked twice a day: no event for so long, so many of the user's
own gaps without an order or an event, and a logistic regression on inactivity and gaps that learns
from the log before the cut. Each has a curve of precision, recall and lead over all its thresholds
(`leaver_rules`), and all are compared at a precision that the fixed rule has. Differences have
intervals over users; in each draw of users the thresholds are set anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from models.data.dataset import Index
from models.errors import EvaluationError
from models.evaluation.contest import ContestConfig, Say
from models.evaluation.leaver_curves import Found, Tally, best, points_of, tally
from models.evaluation.leaver_rules import Asked, AtTimers, Own, Times, ask, column, logistic
from models.evaluation.moments import Histories
from models.evaluation.published import trained
from models.evaluation.results import F64, Figures, ModelResult, Panel, TaskResult
from models.evaluation.sources import DAY, ONLINE_RETAIL, find, read_online_retail
from models.history import PURCHASE
from models.log.eventlog import EventLog
from models.serving.scorer import Scorer
from models.targets import CHURN, Target, column_of, shop_targets, within_own_gaps
from models.training.choosing import probabilities_of

RETAIL: Final = "alerts_online_retail"
SIMULATED: Final = "alerts_simulated_shop"
PUBLISHED: Final = "published"
FIXED: Final = "inactivity"
BY_GAP: Final = ("since_order_by_gap", "inactivity_by_gap")
LOGISTIC: Final = "gaps_logistic"
BASELINES: Final = (FIXED, *BY_GAP, LOGISTIC)
MIN_ORDERS: Final = 2
LEVELS: Final = tuple(tenth / 10 for tenth in range(2, 10))
LEAST_RECALL: Final = 0.2
"""Share of the lost orders that the fixed rule still finds at the precision of the table."""
RESAMPLES: Final = 400
SCORED_AT_ONCE: Final = 50_000


@dataclass(frozen=True)
class LeaverTask:
    """A shop whose leavers are to be found. Times in ms."""

    task: str
    title: str
    cut: int
    """The trainer learns from what is earlier, and alerts are evaluated from then on."""
    until: int
    targets: tuple[Target, ...]
    """What the trainer is to predict; one of them is churn, which says who is gone."""
    prior_gap: int
    """The gap between orders that is assumed of a user of whom nothing is known."""
    timers: AtTimers = field(default_factory=AtTimers)

    @property
    def own(self) -> Own:
        """When a user counts as gone."""
        return Own.of(next(t for t in self.targets if t.name == CHURN), self.prior_gap)


@dataclass(frozen=True)
class Gone:
    """What is taken for gone in a shop: by the user's own gaps, and one horizon for all. Days."""

    gaps: float
    """Expected gaps without an order."""
    shortest: int
    longest: int
    prior_gap: int
    fixed: int
    """The horizon for all."""
    purchase: int
    """Horizon of the purchase that the same model predicts."""

    def targets(self, *, own: bool) -> tuple[Target, ...]:
        """Of the trainer, with the one definition or the other."""
        shop = shop_targets(
            PURCHASE, self.purchase * DAY, (self.longest if own else self.fixed) * DAY
        )
        if not own:
            return shop
        return within_own_gaps(shop, self.gaps, self.shortest * DAY, self.prior_gap * DAY)

    def tasks(self, task: str, shop: str, log: EventLog, cut: int) -> list[LeaverTask]:
        """One by the user's own gaps, one with the horizon for all."""
        until = int(log.events.time.max()) + 1
        own = (
            f"no order within {self.gaps:g} of the user's own gaps, {self.shortest} to"
            f" {self.longest} days"
        )
        what = ((True, "", own), (False, "_fixed", f"no order within {self.fixed} days"))
        return [
            LeaverTask(
                task + suffix,
                f"{shop}, alerts: {words}",
                cut,
                until,
                self.targets(own=by_gaps),
                self.prior_gap * DAY,
            )
            for by_gaps, suffix, words in what
        ]


RETAIL_GONE: Final = Gone(2.0, 14, 42, 30, fixed=42, purchase=28)
SIMULATED_GONE: Final = Gone(3.0, 5, 28, 19, fixed=20, purchase=14)


def evaluate_retail(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Online Retail from June 2011 on, as in the demo."""
    log = read_online_retail(find(ONLINE_RETAIL, folders))
    cut = int(np.datetime64("2011-06-01", "ms").astype(np.int64))
    tasks = RETAIL_GONE.tasks(RETAIL, "Online Retail", log, cut)
    return [run(task, log, config, say) for task in tasks]


def evaluate_simulated(log: EventLog, config: ContestConfig, say: Say) -> list[TaskResult]:
    """A simulated shop that users leave, from 55 % of its time on, as in the demo."""
    first, end = int(log.events.time.min()), int(log.events.time.max())
    cut = first + round(0.55 * (end - first) / DAY) * DAY
    tasks = SIMULATED_GONE.tasks(SIMULATED, "Simulated shop", log, cut)
    return [run(task, log, config, say) for task in tasks]


def run(task: LeaverTask, log: EventLog, config: ContestConfig, say: Say) -> TaskResult:
    """Evaluate the alerts of one shop.

    Raises:
        EvaluationError: no seed published churn, or nobody is lost.
    """
    histories = Histories.of(log)
    shop = times_of(histories)
    everywhen = ask(shop, task.own, MIN_ORDERS, task.until)
    at_timers = ask(shop, task.own, MIN_ORDERS, task.until, task.timers, task.cut)
    scores = {name: column(everywhen, name) for name in (FIXED, *BY_GAP)}
    scores[LOGISTIC] = logistic(everywhen, task.cut)
    tallies = {
        name: [tally(everywhen, said, task.cut, task.until)] for name, said in scores.items()
    }
    if not tallies[FIXED][0].lost_U.any():
        raise EvaluationError(f"{task.task}: nobody is lost after the cut: nothing to find")
    ours, without = [], []
    for seed in config.seeds:
        try:
            scorer = trained(task.task, log, task.targets, task.cut, seed)
            risks = risks_of(scorer, histories, at_timers)
        except EvaluationError as error:
            without.append(f"Seed {seed} is left out: {error}.")
            say(f"{task.task}: {without[-1]}")
            continue
        ours.append(tally(at_timers, risks, task.cut, task.until))
        say(f"{task.task}: seed {seed}: {scorer.version.split('-')[1]}")
    if not ours:
        raise EvaluationError(f"{task.task}: no seed published churn. {' '.join(without)}")
    result = _result(task, tallies | {PUBLISHED: ours}, len(at_timers.at))
    return replace(result, notes=(*result.notes, *without))


def times_of(histories: Histories) -> dict[int, Times]:
    """User -> when there were events, and when orders began."""
    ordered, begins = histories.ordered, histories.trace.begins
    found = {}
    for user, (start, size) in enumerate(zip(ordered.starts, ordered.sizes, strict=True)):
        mine = slice(start, start + size)
        time, kind = ordered.log.events.time[mine], ordered.log.events.type[mine]
        orders = np.unique(time[begins[mine] & (kind == PURCHASE)])
        found[user] = Times(np.unique(time), orders)
    return found


def risks_of(scorer: Scorer, histories: Histories, asked: Asked) -> F64:
    """Probability of churn [N] at each question.

    Raises:
        EvaluationError: the model does not predict churn.
    """
    column = column_of(scorer.targets, CHURN)
    if column is None:
        raise EvaluationError("the trainer published no churn")
    user = asked.user[asked.order]
    event = last_events(histories, user, asked.at)
    said = np.empty(len(user))
    for lo in range(0, len(user), SCORED_AT_ONCE):
        part = slice(lo, lo + SCORED_AT_ONCE)
        examples = histories.examples(event[part], user[part], asked.at[part])
        everything = np.arange(len(examples))
        said[part] = probabilities_of(scorer, examples, everything)[:, column]
    return said


def last_events(histories: Histories, user: Index, at: F64 | Index) -> Index:
    """The last event [N] of each user at or before a time."""
    ordered = histories.ordered
    times = ordered.log.events.time
    first = int(times.min())
    span = int(times.max()) - first + 2
    keys = histories.rows * span + (times - first)
    wanted = user * span + np.minimum(at - first, span - 1)
    found: Index = np.searchsorted(keys, wanted, side="right") - 1
    return found


def _result(task: LeaverTask, tallies: dict[str, list[Tally]], questions: int) -> TaskResult:
    fixed = tallies[FIXED][0]
    curves = {name: [points_of(one) for one in each] for name, each in tallies.items()}
    level = _level(curves[FIXED][0])
    models = {
        name: ModelResult(
            tuple(_figures(best(one, level)) for one in each),
            "baseline" if name in BASELINES else "model",
        )
        for name, each in curves.items()
    }
    lost = int(fixed.lost_U.sum())
    users = int((fixed.lost_U > 0).sum())
    result = TaskResult(
        task=task.task,
        title=task.title,
        criterion="recall",
        higher_is_better=True,
        models=models,
        panels=_panels({name: each[0] for name, each in curves.items()}),
        where="at timers, and rules twice a day",
    )
    best_rule = result.best_of(BASELINES)
    notes = [
        f"{lost} lost orders of {users} users; {questions} evaluations by timers.",
        (
            f"The table is at a precision of {level:.1f}: the highest tenth at which the fixed rule"
            f" finds {LEAST_RECALL:.0%} of the lost orders."
        ),
        *(
            _compared(tallies, curves, other, at)[1]
            for other in dict.fromkeys((FIXED, best_rule))
            for at in LEVELS
            if best(curves[other][0], at) is not None
        ),
    ]
    short, _ = _compared(tallies, curves, FIXED, level)
    return replace(result, notes=tuple(notes), against=short)


def _level(fixed: list[Found]) -> float:
    """The precision at which the table compares."""
    good = []
    for level in LEVELS:
        found = best(fixed, level)
        if found is not None and found.recall >= LEAST_RECALL:
            good.append(level)
    return max(good, default=min(LEVELS))


def _figures(found: Found | None) -> Figures:
    if found is None:
        return {"precision": np.nan, "recall": 0.0, "lead_days": np.nan, "raised": 0.0}
    return {
        "precision": found.precision,
        "recall": found.recall,
        "lead_days": found.lead_days,
        "raised": float(found.raised),
    }


def _compared(
    tallies: dict[str, list[Tally]], curves: dict[str, list[list[Found]]], other: str, level: float
) -> tuple[str, str]:
    """The published model beside a rule at one precision: in short, and with an interval."""
    rule, ours = tallies[other][0], tallies[PUBLISHED]
    users = max(len(one.lost_U) for one in (rule, *ours))
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(users, np.full(users, 1 / users), RESAMPLES).astype(np.float64)
    weights = np.concatenate([np.ones((1, users)), drawn])

    def recall(one: Tally) -> F64:
        return one.recall_at(level, weights[:, : len(one.lost_U)])

    theirs = recall(rule)
    # A seed whose model has no such precision finds nobody.
    mine = np.mean([np.nan_to_num(recall(one)) for one in ours], axis=0)
    ratio = mine / theirs
    low, high = np.nanquantile(ratio[1:], [0.025, 0.975])
    verdict = "surely more" if low > 1 else "surely fewer" if high < 1 else "not surely more"
    leads = [one.lead_days for one in (best(each, level) for each in curves[PUBLISHED]) if one]
    found = best(curves[other][0], level)
    rule_lead = found.lead_days if found else np.nan
    times = f"{ratio[0]:.2f} times as many ({low:.2f} to {high:.2f}"
    wins = f"; **{other}, a baseline, wins**" if ratio[0] < 1 else ""
    return f"at precision {level:.1f} {PUBLISHED} finds {times}) as {other}{wins}", (
        f"At precision {level:.1f} {PUBLISHED} finds {mine[0]:.3f} of the lost orders and {other}"
        f" {theirs[0]:.3f}: {times}, 95 %, users resampled), {verdict}; median lead"
        f" {np.mean(leads) if leads else np.nan:.1f} days against {rule_lead:.1f}."
    )


def _panels(curves: dict[str, list[Found]]) -> tuple[Panel, ...]:
    def line(found: list[Found], name: str) -> tuple[F64, F64]:
        return (
            np.array([one.precision for one in found]),
            np.array([getattr(one, name) for one in found]),
        )

    wanted = (("recall", "share of lost orders found"), ("lead_days", "median lead, days"))
    return tuple(
        Panel(
            f"{label} against precision",
            "precision",
            label,
            {rule: line(found, name) for rule, found in curves.items()},
        )
        for name, label in wanted
    )
