"""Who buys nothing in the evaluation window, of the clients with a purchase before the split.

The baselines are fitted on the labels of the training window at the split, as the challenge does
with its representations. The product's networks come from the trainer's own path: examples drawn
from the log before the split, targets of 14 days, stopped and calibrated by other users; they use
no label of the training window. Their probability is of the 14 days after the split, and the
evaluation window begins where these end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.baselines import simple
from models.baselines.bgnbd import fit_process
from models.data.dataset import DatasetConfig, Examples
from models.data.split import STOPPING, TRAIN
from models.errors import DatasetError, TrainingError
from models.evaluate import calibration_error, log_loss, pr_auc
from models.evaluation.contest import PENALTIES, ContestConfig, Say
from models.evaluation.recsys2025.cells import F32, F64, log_odds
from models.evaluation.recsys2025.metrics import binary_auroc
from models.evaluation.recsys2025.reading import Prepared
from models.evaluation.recsys2025.states import examples_at
from models.evaluation.recsys2025.windows import WINDOW
from models.evaluation.results import Figures
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, predict_probabilities, stopping_losses
from models.fitting.linear import fit_logistic
from models.history import PURCHASE
from models.inputs import features
from models.log.eventlog import EventLog, LogParts
from models.networks import HIDDEN_SIZE, build
from models.networks.base import Network
from models.networks.process import PurchaseProcess
from models.serving.scorer import network_spec
from models.targets import ABSENT, CHURN, OCCURS, Target
from models.training.candidates import Course, fit_candidates
from models.training.gather import gather

TRAINED: Final = ("logistic", "blend", "gru")
"""Architectures that the trainer fits here, where the command's --networks has them."""
TARGET: Final = Target(CHURN, ABSENT, PURCHASE, WINDOW)
POINTS: Final = 4
"""Examples per user just after an event, and as many at random times."""
LEAST_POINTS: Final = 50
MOST_USERS: Final = 50_000
"""Users that the trainer learns from, at most."""

Bools = NDArray[np.bool_]
Seeds = dict[str, list[F64]]
"""Model -> probabilities [U] of churn, seed by seed."""


@dataclass(frozen=True)
class Known:
    """What is known at the split of the U relevant clients; rows of others are 0."""

    profile: F32
    """[U,P]."""
    trained: Seeds
    """Trained network -> probabilities; NaN for clients without a purchase."""
    story: tuple[str, ...]
    """What the trainer did, one sentence each."""

    @property
    def silence(self) -> F32:
        """[U] log-hours since the last purchase, or a large number."""
        names = features.PROFILE_FEATURES
        since = self.profile[:, names.index("log_since_purchase_hours")]
        bought = self.profile[:, names.index("has_purchase")] > 0
        return np.where(bought, since, np.float32(simple.NEVER))


@dataclass(frozen=True)
class _OfUsers:
    """The events of some users of a log."""

    log: LogParts
    users: NDArray[np.uint64]
    """Hashes, ascending."""

    def __len__(self) -> int:
        return sum(map(len, self.parts()))

    def parts(self) -> Iterator[EventLog]:
        """The parts that have any."""
        for part in self.log.parts():
            at = np.minimum(np.searchsorted(self.users, part.users), len(self.users) - 1)
            mine = part.where(self.users[at] == part.users)
            if len(mine):
                yield mine


def known_at_split(prepared: Prepared, config: ContestConfig, say: Say) -> Known:
    """Fit the trainer's networks, then describe and score all relevant clients in one pass.

    Where the log is too short or too small for the trainer there are no networks, and the story
    says why.
    """
    clients, cut = prepared.clients, prepared.windows.cut
    drawing = DatasetConfig(
        event_points=POINTS,
        silence_points=POINTS,
        min_orders=1,
        grace_ms=0,
        cancel_window_ms=0,
        max_users=MOST_USERS,
        min_points=LEAST_POINTS,
    )
    networks: list[tuple[str, Network]] = []
    try:
        networks, story = _trained(prepared, drawing, config, say)
    except (DatasetError, TrainingError) as error:
        story = (f"The trainer refused the log before the split: {error}.",)
    profile = np.zeros((len(clients), len(features.PROFILE_FEATURES)), np.float32)
    scores = [np.full(len(clients), np.nan) for _ in networks]
    for examples in examples_at(prepared.spool, cut, drawing):
        row = clients.place_of_hash(examples.user)
        profile[row] = examples.profile
        buyers = np.flatnonzero(prepared.active[row])
        for (_, network), found in zip(networks, scores, strict=True):
            found[row[buyers]] = _probabilities(network, examples, buyers)
    trained: Seeds = {}
    for (name, _), found in zip(networks, scores, strict=True):
        trained.setdefault(name, []).append(found)
    return Known(profile, trained, story)


def _trained(
    prepared: Prepared, drawing: DatasetConfig, config: ContestConfig, say: Say
) -> tuple[list[tuple[str, Network]], tuple[str, ...]]:
    """(architecture, network) of every seed, and what was done."""
    wanted = tuple(name for name in TRAINED if name in config.networks)
    if not wanted:
        return [], ()
    users = np.sort(prepared.clients.hash[prepared.active])
    log = _OfUsers(prepared.spool, users)
    targets = (TARGET,)
    now = prepared.windows.cut
    gathered = gather(log, targets, drawing, drop_late=False, now=now)
    examples = gathered.examples
    penalty = _penalty(examples, config.fit)
    fitted = []
    for seed in config.seeds:
        fit = replace(config.fit, seed=seed, logistic_penalty=penalty)
        for each in fit_candidates(examples, targets, wanted, fit, HIDDEN_SIZE, Course("cpu")):
            fitted.append((each.architecture, each.network))
            say(f"  seed {seed}: {each.architecture} fitted")
    return fitted, (
        f"The trainer drew {len(examples)} examples of {gathered.window.users} buyers.",
        f"Penalty of its linear models: {penalty:g}, the lowest loss on the stopping slice.",
    )


def _penalty(examples: Examples, fit: FitConfig) -> float:
    stopping = Batches(examples, examples.of_slice(STOPPING), 256, torch.device("cpu"))
    losses = {}
    for penalty in PENALTIES:
        network = build("logistic", network_spec((TARGET,)))
        tried = replace(fit, logistic_penalty=penalty)
        fit_logistic(network, examples, examples.of_slice(TRAIN), tried)
        losses[penalty] = float(stopping_losses(network, stopping, examples).sum())
    return min(losses, key=lambda penalty: losses[penalty])


def _probabilities(network: Network, examples: Examples, chosen: NDArray[np.intp]) -> F64:
    if not len(chosen):
        return np.empty(0)
    return predict_probabilities(network, examples, chosen)[:, 0]


def predictions(
    known: Known, population: Bools, churned_before: Bools, seeds: tuple[int, ...]
) -> Seeds:
    """Model -> probability of churn [Q] for each seed, of the clients of a population.

    Args:
        known: what is known of the U clients.
        population: [U] who counts; Q of them do.
        churned_before: [U] who bought nothing in the training window.
        seeds: of the models that have any randomness.
    """
    profile, learnt = known.profile[population], churned_before[population].astype(np.float64)
    weight = np.ones(len(learnt))
    once = {
        "base_rate": simple.base_rate(learnt, weight, len(learnt)),
        "recency": simple.recency(profile, learnt, profile),
        "frequency": simple.frequency(profile, learnt, profile),
        "bg_nbd": 1 - _process(profile),
    }
    found = {name: [each] * len(seeds) for name, each in once.items()}
    found["boosting"] = [_boosting(profile, learnt, seed) for seed in seeds]
    return found | {
        name: [each[population] for each in said] for name, said in known.trained.items()
    }


def _boosting(profile: F32, learnt: F64, seed: int) -> F64:
    """Boosted trees, each half of the clients predicted from the labels of the other.

    Trees recognise a client by the profile, which is the same in both windows, and would repeat the
    client's own label of the training window.
    """
    half = np.random.default_rng(seed).random(len(profile)) < 0.5  # noqa: PLR2004  # a half
    found = np.empty(len(profile))
    for mine in (half, ~half):
        fitted_on = profile[~mine], learnt[~mine], np.ones(int((~mine).sum()))
        found[mine] = simple.boosting(*fitted_on, profile[mine], seed)
    return found


def _process(profile: F32) -> F64:
    """Probability of a purchase within the window, by a purchase process without labels."""
    buys = Target("purchase", OCCURS, PURCHASE, WINDOW)
    process = PurchaseProcess(network_spec((buys,)), fit_process(profile))
    with torch.no_grad():
        return torch.sigmoid(process(torch.from_numpy(profile))[:, 0].double()).numpy()


def judged(churned: Bools, probabilities: F64) -> Figures:
    """The challenge's AUROC, and how far the probabilities are from what came."""
    return {
        "auroc": binary_auroc(churned, log_odds(probabilities).astype(np.float32)),
        "pr_auc": pr_auc(churned, probabilities),
        "log_loss": log_loss(churned, probabilities),
        "ece": calibration_error(churned, probabilities),
    }
