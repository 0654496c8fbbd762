"""Networks that rank what comes next, fitted and judged on the protocol of `taobao_next`.

A head (`models.networks.next_head`) and the network whose states it reads are fitted together, on
all but the last event of each user. Part of the users end the fit: what they did before their last
event is not learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from models.data.dataset import F32, I64, Index
from models.evaluation.results import Figures
from models.history import SessionRules, history_dtype
from models.inputs.apply import apply_in_order
from models.inputs.features import event_inputs
from models.log.eventlog import OrderedLog
from models.networks import build
from models.networks.base import Network
from models.networks.next_head import RECENT, NextConfig, NextHead
from models.ranking.fit import HEAD_FIT, Moments, Windows, fit_next, make_head, moments, states
from models.ranking.judge import TOP, hits
from models.serving.scorer import network_spec
from models.targets import shop_targets

STATES: Final = ("gru",)
"""Architectures whose states are read. An LRU ranked categories no better on the events before
those judged."""
WINDOW: Final = 256
"""Events of a user that are learnt from, at most: the last ones."""
STOPPING_SHARE: Final = 0.15
"""Share of the users who say when to stop."""
DAY: Final = 86_400_000
SPEC: Final = network_spec(shop_targets(1, DAY, DAY))
"""What comes next is asked of the states, not of these targets; a network must have some."""

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Stage:
    """The events of all users as a network is shown them."""

    ids: I64
    """[N,C] user by user, in order."""
    nums: F32
    """[N,F]."""
    start: Index
    """[U] first event of each user."""
    last: Index
    """[U] last event of each user, which is to be foretold."""

    @classmethod
    def of(cls, ordered: OrderedLog) -> Stage:
        """The inputs of every event, as serving makes them."""
        sizes = ordered.sizes
        records = np.zeros(len(sizes), history_dtype(RECENT))
        rows = np.repeat(np.arange(len(sizes)), sizes)
        trace = apply_in_order(records, rows, ordered.log.events, SessionRules())
        ids, nums = event_inputs(trace)
        return cls(ids, nums, ordered.starts, ordered.starts + sizes - 1)

    def windows(self, users: Index, ahead: int) -> Windows:
        """The users' events before the last one, and `ahead` more."""
        last = self.last[users]
        start = np.maximum(self.start[users], last - WINDOW)
        return Windows(self.ids, self.nums, start, last + ahead)


def fit_and_judge(
    stage: Stage, tested: Index, what: str, architecture: str, seed: int
) -> tuple[Figures, Curve]:
    """Fit one network and rank the last events of the `tested` users.

    Args:
        stage: the events.
        tested: users with two events before the last, at least.
        what: "category" or "item".
        architecture: one of `STATES`.
        seed: of the users who end the fit, the weights, batches, moments and dropout.

    Returns:
        The figures, and (training loss, stopping loss) by epoch.

    Raises:
        TrainingError: nobody has enough events, or the fit failed.
    """
    stops = np.random.default_rng(seed).random(len(stage.start)) < STOPPING_SHARE
    train = stage.windows(np.flatnonzero(~stops), 0)
    stopping = stage.windows(np.flatnonzero(stops), 0)
    curve: Curve = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network(architecture, train)
        head = make_head(SPEC, network, train, NextConfig(what))
        fit_next(
            head,
            network,
            train,
            stopping,
            replace(HEAD_FIT, seed=seed),
            architecture,
            lambda news: curve.append((news.train_loss, news.stopping_loss)),
        )
    return judged(stage, tested, head, network), curve


def _network(architecture: str, train: Windows) -> Network:
    """A new network, standardised on the events that it will learn from."""
    network = build(architecture, SPEC)
    network.observe(torch.from_numpy(train.ids[train.events]))
    nums = torch.from_numpy(train.nums[train.events])
    width = len(SPEC.profile_features)
    network.set_standardisation(
        torch.zeros(width), torch.ones(width), nums.mean(0), nums.std(0, correction=0)
    )
    return network


def judged(stage: Stage, tested: Index, head: NextHead, network: Network) -> Figures:
    """Hit rate and discounted gain of the last events of `tested` users."""
    found: list[tuple[float, float]] = []
    windows = stage.windows(tested, 1)
    with torch.inference_mode():
        for at in range(0, len(tested), 4 * HEAD_FIT.windows):
            part = windows.take(np.arange(at, min(at + 4 * HEAD_FIT.windows, len(tested))))
            batch = _last(moments(part, head.column, None))
            codes, _ = head.rank(states(network, batch), *batch.recent(head.recent), TOP)
            found += map(hits, codes.numpy(), batch.truth.tolist())
    # A last event without a code is no moment: nothing ranks it.
    hit, gain = np.sum(found, axis=0) / len(tested) if found else (0.0, 0.0)
    return {f"hr_{TOP}": float(hit), f"ndcg_{TOP}": float(gain)}


def _last(batch: Moments) -> Moments:
    """Of the moments those before a window's last event."""
    return batch.take(torch.nonzero(batch.position == batch.length[batch.row] - 2).squeeze(1))
