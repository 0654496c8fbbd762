"""The model card: what a model is for, what it was fitted on, how good it is and where it is not.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019). Lies in the artifact as JSON
and as Markdown, under the manifest's digests and signature.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from models.log.cleaning import Cleaning
from models.ranking.judge import GAIN, TOP
from models.serving.manifest import FitSpan, Manifest, SelfSupervision, TrainingWindow
from models.serving.rankings import Ranking
from models.serving.thresholds import RaiseAt, in_words
from models.targets import ABSENT, AMOUNT, HAZARD, Target
from models.training.gate import GateRules
from models.training.verdict import Check, Verdict

CARD_JSON: Final = "card.json"
CARD_MARKDOWN: Final = "card.md"
_METRICS: Final = ("roc_auc", "pr_auc", "log_loss", "ece", "brier", "base_rate", "points")
_OF_POPULATIONS: Final = (
    "roc_auc",
    "log_loss",
    "ece",
    "ece_chance",
    "base_rate",
    "points",
    "users",
)
_RANKED: Final = (f"hr_{TOP}", GAIN)
_HOUR: Final = 3_600_000
_GUESS: Final = 0.55
"""ROC-AUC below which a segment is named among the limits."""


class Card(msgspec.Struct, frozen=True):
    """All that a reader of scores should know of the model behind them."""

    version: str
    architecture: str
    created_at: int
    """ms since the epoch."""
    choice: str
    window: TrainingWindow
    targets: tuple[Target, ...]
    metrics: dict[str, float]
    """"target.metric" on the later time slice, which nothing was fitted on."""
    baselines: dict[str, dict[str, float]]
    calibration: dict[str, dict[str, float]]
    penalties: dict[str, float]
    """Target -> L2 penalty of the linear part."""
    checks: tuple[Check, ...]
    """Of the gate; all were passed."""
    champion: str | None
    """Version that it was compared with."""
    segments: dict[str, dict[str, dict[str, float]]]
    """Target -> segment -> figures."""
    limits: tuple[str, ...]
    cleaning: Cleaning
    """What was found in the log and left out."""
    rankings: tuple[Ranking, ...] = ()
    """Of what comes next; those that are not published too, with the reason."""
    left_out: dict[str, str] = {}
    """Target that was asked for -> why it is not predicted."""
    gated: FitSpan = FitSpan()
    """What the fit has learnt from that all figures are of."""
    served: FitSpan | None = None
    """What the published weights have learnt from, where they were fitted again after the gate."""
    populations: dict[str, dict[str, dict[str, float]]] = {}
    """Target -> population ("event", "timer") -> figures, each user counting once."""
    self_supervision: SelfSupervision = SelfSupervision()
    """What the network has learnt of events themselves, without labels."""
    raise_at: RaiseAt | None = None
    """From which risk on alerts are raised, where that was learnt."""

    def documents(self) -> dict[str, bytes]:
        """File name -> content, for the artifact."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2)
        return {CARD_JSON: text, CARD_MARKDOWN: self.markdown().encode()}

    def markdown(self) -> str:
        """The card for people."""
        window = self.window
        lines = [
            f"# Model {self.version}",
            "",
            f"{self.choice}. Made {_moment(self.created_at)} UTC.",
            "",
            "## Data",
            "",
            (
                f"{window.events:,} events of {window.users:,} users,"
                f" {_moment(window.first_event)} to {_moment(window.last_event)} UTC; points:"
                f" {', '.join(f'{name} {count:,}' for name, count in window.examples.items())}."
            ),
            "",
            f"Cleaning: {_counts(self.cleaning)}.",
            "",
            "## Targets",
            "",
            *(_target(target) for target in self.targets),
            "",
            *(f"- not predicted: {why}" for why in self.left_out.values()),
            *([""] if self.left_out else []),
            *self._penalty_line(),
            *_self_supervised(self.self_supervision),
            "## Figures on the later time slice",
            "",
            *self._fits(),
            "",
            *self._threshold(),
            _row("target", "model", *_METRICS),
            _row(*["---"] * (2 + len(_METRICS))),
        ]
        everyone = {self.architecture: self.metrics} | self.baselines
        for target in self.targets:
            for name, found in everyone.items():
                cells = [_cell(found.get(f"{target.name}.{metric}")) for metric in _METRICS]
                lines.append(_row(target.name, name, *cells))
        lines += self._population_table()
        for target in self.targets:
            lines += self._segment_table(target.name)
        lines += self._ranking_table()
        lines += ["", "## The gate", ""]
        if self.champion:
            lines += [f"Compared with {self.champion}.", ""]
        lines += [f"- {check}" for check in self.checks]
        lines += ["", "## Limits", "", *(f"- {limit}" for limit in self.limits), ""]
        return "\n".join(lines)

    def _fits(self) -> list[str]:
        """Which fit the figures are of, and which one is served."""
        judged = f"Figures are of the gated fit, to {_span(self.gated)}."
        if self.served is None:
            return [f"{judged} That fit is served."]
        return [
            f"{judged} The served fit has the same epochs and prior, and learnt from more:",
            "",
            f"{_span(self.served)}. No figure is of it.",
        ]

    def _threshold(self) -> list[str]:
        """From which risk on alerts are raised, where that was learnt."""
        found = self.raise_at
        if found is None:
            return []
        words = in_words(found)
        return [f"{words[0].upper()}{words[1:]}.", ""]

    def _penalty_line(self) -> list[str]:
        if not self.penalties:
            return []
        each = (f"{name} {penalty:g}" for name, penalty in self.penalties.items())
        return [f"L2 penalty of the linear part: {', '.join(each)}.", ""]

    def _ranking_table(self) -> list[str]:
        if not self.rankings:
            return []
        rows, notes = [], []
        for one in self.rankings:
            everyone = {self.architecture: one.metrics} | one.baselines if one.metrics else {}
            for name, found in everyone.items():
                cells = [_cell(found.get(metric)) for metric in _RANKED]
                rows.append(_row(one.what, name, *cells))
            told = f"not told: {one.refused}" if one.refused else "told"
            notes.append(
                f"- {one.what}: {told}. {one.vocabulary:,} names; {one.moments:,} events of users"
                f" from whom nothing was learnt, {one.covered:.1%} of them of one of these."
            )
        head = [_row("what", "model", *_RANKED), _row(*["---"] * (2 + len(_RANKED))), *rows, ""]
        return ["", "## What comes next", "", *(head if rows else ()), *notes]

    def _population_table(self) -> list[str]:
        if not self.populations:
            return []
        metrics = (*_OF_POPULATIONS, "champion.log_loss") if self.champion else _OF_POPULATIONS
        return [
            "",
            "## At events and in inactivity",
            "",
            (
                "Predictions after events (event) and as timers evaluate users (timer), each user"
                " counting once. A calibrated model's ece stays below ece_chance 95 times of 100."
            ),
            "",
            _row("target", "population", *metrics),
            _row(*["---"] * (2 + len(metrics))),
            *(
                _row(target, name, *[_cell(found.get(m)) for m in metrics])
                for target, rows in self.populations.items()
                for name, found in rows.items()
            ),
        ]

    def _segment_table(self, target: str) -> list[str]:
        rows = self.segments.get(target, {})
        if not rows:
            return []
        metrics = (*_METRICS, "champion.log_loss") if self.champion else _METRICS
        return [
            "",
            f"## {target} by segment",
            "",
            _row("segment", *metrics),
            _row(*["---"] * (1 + len(metrics))),
            *(_row(name, *[_cell(found.get(m)) for m in metrics]) for name, found in rows.items()),
        ]


def card_of(
    manifest: Manifest,
    verdict: Verdict,
    rules: GateRules,
    rankings: tuple[Ranking, ...] = (),
) -> Card:
    """The card of a model that passed the gate."""
    return Card(
        version=manifest.version,
        architecture=manifest.architecture,
        created_at=manifest.created_at,
        choice=manifest.choice,
        window=manifest.window,
        targets=manifest.targets,
        metrics=manifest.metrics,
        baselines=manifest.baselines,
        calibration=manifest.calibration,
        penalties=manifest.penalties,
        checks=verdict.checks,
        champion=verdict.champion,
        segments=verdict.segments,
        limits=_limits(manifest, verdict, rules),
        cleaning=manifest.cleaning,
        rankings=rankings,
        left_out=manifest.left_out,
        gated=manifest.gated,
        served=manifest.served,
        self_supervision=manifest.self_supervision,
        raise_at=manifest.raise_at,
        populations=verdict.populations,
    )


def _limits(manifest: Manifest, verdict: Verdict, rules: GateRules) -> tuple[str, ...]:
    evidence = rules.evidence
    until = _moment(manifest.window.last_event)
    limits = [
        (
            f"It has seen nothing after {until} UTC; seasons, prices and goods that came later"
            " are unknown to it."
        ),
        (
            f"A network is shown the last {manifest.history_length} events of a user; older ones"
            " count in sums only."
        ),
        (
            f"Users with fewer than {evidence.min_events} events or {evidence.min_orders} orders"
            " are marked cold_start: their scores are little more than the shop's average."
        ),
        (
            "Learnt from one shop's log: a score says who is likely to buy or to leave, not whom an"
            " action would move. The holdout arm of the alerts measures that."
        ),
    ]
    for target, rows in verdict.segments.items():
        weak = [name for name, found in rows.items() if found.get("roc_auc", 1.0) < _GUESS]
        if weak:
            limits.append(f"For {target} it ranks hardly better than chance in: {', '.join(weak)}.")
    if manifest.rankings:
        limits.append(
            "Of what comes next it ranks a vocabulary: other names are never told, and names that"
            " share a code are told as one of them."
        )
    if verdict.champion is None:
        limits.append("There was no earlier champion to compare it with.")
    return tuple(limits)


def _self_supervised(found: SelfSupervision) -> list[str]:
    """Pre-training and auxiliary loss, where there was one."""
    parts = []
    if found.pretrain_task:
        masked = f", {found.pretrain_mask:.0%} masked" if found.pretrain_mask else ""
        parts.append(
            f"pre-training {found.pretrain_task} (passes: {found.pretrain_epochs}{masked})"
        )
    if found.next_action_weight:
        parts.append(f"auxiliary next-action loss of weight {found.next_action_weight:g}")
    return [f"Learnt without labels: {', '.join(parts)}.", ""] if parts else []


def _target(target: Target) -> str:
    until = f"within {target.horizon_ms / _HOUR:g} h"
    if target.kind == HAZARD:
        return f"- {target.name}: one {until}, if none has come in {target.after_ms / _HOUR:g} h"
    if target.kind == AMOUNT:
        return f"- {target.name}: what is spent {until}, of which {target.most:g} counts at most"
    if target.in_session:
        until = f"in the rest of the session, {until}"
    if target.gaps:
        until = (
            f"within {target.gaps:g} of the user's own expected gaps between orders, at least"
            f" {target.floor_ms / _HOUR:g} h, at most {target.horizon_ms / _HOUR:g} h"
        )
    asked = ", predicted at events only" if target.at_events else ""
    return f"- {target.name}: {'none' if target.kind == ABSENT else 'one'} {until}{asked}"


def _counts(cleaning: Cleaning) -> str:
    found: dict[str, int | dict[str, int]] = msgspec.structs.asdict(cleaning)
    counts: dict[str, int] = {}
    by_kind: dict[str, int] = {}
    for name, count in found.items():
        text = name.replace("_", " ")
        if isinstance(count, dict):
            by_kind |= {f"{text} ({kind})": each for kind, each in count.items()}
        else:
            counts[text] = count
    lines = [f"{text} {count:,}" for text, count in (counts | by_kind).items() if count]
    return ", ".join(lines) or "nothing"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value > 1 and value == int(value) else f"{value:.4f}"


def _span(fit: FitSpan) -> str:
    return (
        f"{fit.points:,} examples from {_moment(fit.first)} to {_moment(fit.last)} UTC, calibrated"
        f" on {fit.calibrated_on:,}"
    )


def _moment(time: int) -> str:
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M}"
