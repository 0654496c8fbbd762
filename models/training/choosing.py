"""Which candidate is published: the best on later data, if it surely beats the simpler one."""

from __future__ import annotations

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


def choose(
    fitted: list[Candidate],
    examples: Examples,
    targets: tuple[Target, ...],
    rivals: dict[str, F64],
    champion: Scorer | None,
    rules: GateRules,
) -> tuple[Candidate, Verdict]:
    """The candidate of the lowest log-loss, or the logistic one if it is not surely beaten."""
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
    best = min(fitted, key=lambda candidate: candidate.mean_log_loss(targets))
    logistic = next((c for c in fitted if c.architecture == LOGISTIC), best)
    if best is not logistic:
        others = rivals | {LOGISTIC: logistic.probabilities}
        verdict = judge(later, best.probabilities, others, rules, serving)
        if all(check.passed for check in verdict.checks if check.name.endswith(LOGISTIC)):
            return best, verdict
    return logistic, judge(later, logistic.probabilities, rivals, rules, serving)


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
