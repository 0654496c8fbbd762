"""Which candidate is published: the best on later data, if it surely beats the simpler one."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from models.data.dataset import Examples, Index
from models.data.split import VALIDATION
from models.evaluate import F64
from models.fitting.batches import Batches
from models.serving.scorer import Scorer
from models.targets import Target
from models.training.candidates import Candidate
from models.training.gate import LOGISTIC, GateRules, Slice, judge
from models.training.verdict import Verdict

SIMPLE: Final = (LOGISTIC, "blend")
"""What a network over sequences must surely beat, the simplest first."""


def choose(
    fitted: list[Candidate],
    examples: Examples,
    targets: tuple[Target, ...],
    rivals: dict[str, F64],
    champion: Scorer | None,
    rules: GateRules,
) -> tuple[Candidate, Verdict]:
    """The candidate that surely beats all simpler ones; the simplest needs to beat none.

    "Surely" is by the paired bootstrap over users of the gate, which the verdict shows.
    """
    points = examples.of_slice(VALIDATION)
    later = Slice(
        targets,
        examples.labels[points],
        examples.profile[points],
        examples.user[points],
        examples.at_event[points],
    )
    serving = None
    if champion is not None and set(targets) <= set(champion.targets):
        columns = [champion.targets.index(target) for target in targets]
        serving = champion.version, probabilities_of(champion, examples, points)[:, columns]
    # From the simplest on; of several networks the one of the lowest loss comes last.
    loss = {candidate.architecture: candidate.mean_log_loss(targets) for candidate in fitted}
    order = sorted(fitted, key=lambda c: (_rank(c.architecture), -loss[c.architecture]))
    for place in range(len(order) - 1, 0, -1):
        best = order[place]
        others = {
            one.architecture: one.probabilities
            for one in order[:place]
            if _rank(one.architecture) < _rank(best.architecture)
        }
        names = tuple(others)
        verdict = judge(later, best.probabilities, rivals | others, rules, serving, may_equal=names)
        beaten = {f"better than {name}" for name in names}
        if all(check.passed for check in verdict.checks if check.name in beaten):
            return best, verdict
    return order[0], judge(later, order[0].probabilities, rivals, rules, serving)


def _rank(architecture: str) -> int:
    """How simple an architecture is: 0 is the simplest."""
    return SIMPLE.index(architecture) if architecture in SIMPLE else len(SIMPLE)


def why(best: Candidate, fitted: list[Candidate], targets: tuple[Target, ...]) -> str:
    """Why `best` was chosen, in words."""
    lowest = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    if best is lowest:
        return "lowest mean log-loss on the validation slice"
    return f"not surely beaten by {lowest.architecture} on the validation slice"


def probabilities_of(scorer: Scorer, examples: Examples, points: Index) -> F64:
    """What a model says of `points`, [J,K]."""
    place = np.full(len(examples), -1, np.intp)
    place[points] = np.arange(len(points))
    out = np.empty((len(points), len(scorer.targets)))
    for batch in Batches(examples, points, 256, torch.device("cpu")):
        start = np.zeros((len(batch.length), scorer.hidden_size), np.float32)
        states = scorer.scan(start, batch.ids.numpy(), batch.nums.numpy(), batch.length.numpy())
        hidden = states[batch.row.numpy(), batch.position.numpy()]
        out[place[batch.points.numpy()]] = scorer.probabilities(hidden, batch.profile.numpy())
    return out
