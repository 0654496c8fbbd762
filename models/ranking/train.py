"""What comes next, ranked by a model that is about to be published: fitted, judged, or left out.

The network is finished when this begins, and stays as it is. On top of its states a head is fitted
for each thing that is to be ranked. Nothing is learnt of anybody after the training slice, and from
a share of the users nothing but which codes there are; these users' later events say how good the
ranking is. Where it is not better than popularity and than what was there lately, the model is
published without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch

from models.data.dataset import Examples, Index
from models.data.split import TimeSplit
from models.errors import TrainingError
from models.fitting.config import FitConfig, RefreshConfig
from models.fitting.fit import Report
from models.log.names import Catalogue, Names
from models.networks.base import Network, NetworkSpec
from models.networks.next_head import RECENT, NextConfig, NextHead
from models.ranking.fit import HEAD_FIT, VOCABULARY, Windows, fit_next, make_head
from models.ranking.judge import GAIN, judge, popular
from models.ranking.windows import NextWindows, next_windows
from models.serving.artifact import script_bytes
from models.serving.rankings import Ranked, Ranking

LEARNT: Final = 20_000
"""Windows that are learnt from, at most: an epoch stays within a minute or two."""
JUDGED: Final = 5_000
"""Windows that end a fit, and as many that a ranking is judged on, at most."""


@dataclass(frozen=True)
class RankConfig:
    """What is ranked of what comes next."""

    whats: tuple[str, ...] = ()
    """"category", "item"."""
    vocabulary: int = VOCABULARY
    """Codes that can be told, at most."""
    least_moments: int = 100
    """Fewer are too few to judge a ranking by."""
    fit: FitConfig = HEAD_FIT
    """How a head is fitted; the seed is that of the whole run."""


@dataclass(frozen=True)
class Earlier:
    """What goes on learning."""

    heads: Mapping[str, NextHead]
    """By what they rank; they are changed."""
    points: Index
    """Points of the training slice that they learn from."""
    refresh: RefreshConfig


@dataclass(frozen=True)
class Rankings:
    """All that was fitted."""

    rankings: tuple[Ranking, ...] = ()
    """In the order they were asked for; those that are refused too."""
    ranked: Mapping[str, Ranked] = field(default_factory=dict)
    """Those that are published."""

    @property
    def told(self) -> tuple[Ranking, ...]:
        """The rankings that are published."""
        return tuple(ranking for ranking in self.rankings if not ranking.refused)


def rank_next(
    network: Network,
    spec: NetworkSpec,
    examples: Examples,
    split: TimeSplit,
    length: int,
    names: Catalogue,
    config: RankConfig,
    seed: int,
    report: Report | None = None,
    earlier: Earlier | None = None,
) -> Rankings:
    """Fit and judge a head for each thing that is to be ranked.

    Args:
        network: fitted; it stays as it is.
        spec: its inputs.
        examples: whose windows are learnt from.
        split: their slices of time.
        length: events of a window, at most.
        names: of the codes; what has none cannot be told.
        config: what is ranked.
        seed: of the held-out moments, the weights, batches and dropout.
        report: called after each epoch.
        earlier: heads that go on, each if its vocabulary still holds the same codes; else it is
            fitted from the beginning, as without any.
    """
    network.eval()
    whole = next_windows(examples, split, length)
    rankings, ranked = [], {}
    for what in config.whats:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            one = _One(what, network, spec, config, names.get(what) or Names(), seed, report)
            try:
                head = one.head(whole.past, length)
                before = None if earlier is None else earlier.heads.get(what)
                if earlier is None or before is None or one.other(before, head):
                    one.fit(head, whole, config.fit)
                else:
                    head = before
                    one.fit_on(head, next_windows(examples, split, length, earlier.points), earlier)
                ranking = one.judged(head, whole)
            except TrainingError as error:
                ranking = Ranking(what, refused=str(error))
        rankings.append(ranking)
        if not ranking.refused:
            ranked[what] = Ranked(script_bytes(head), one.names.of(head.codes.tolist()))
    return Rankings(tuple(rankings), ranked)


@dataclass(frozen=True)
class _One:
    """The work on one ranking."""

    what: str
    network: Network
    spec: NetworkSpec
    config: RankConfig
    names: Names
    seed: int
    report: Report | None

    def head(self, past: Windows, length: int) -> NextHead:
        """A new head with the vocabulary of what has been."""
        wanted = NextConfig(self.what, recent=min(length, RECENT))
        most, known = self.config.vocabulary, self.names.known
        return make_head(self.spec, self.network, past, wanted, most, known)

    @staticmethod
    def other(before: NextHead, head: NextHead) -> bool:
        """Whether an earlier head is of other codes or another size."""
        return before.recent != head.recent or not torch.equal(before.codes, head.codes)

    def fit(self, head: NextHead, windows: NextWindows, fit: FitConfig) -> None:
        """Fit a head to the states of the network.

        Raises:
            TrainingError: nobody has enough events, or the loss became NaN.
        """
        fit_next(
            head,
            self.network,
            _some(windows.train, LEARNT, self.seed),
            _some(windows.stopping, JUDGED, self.seed),
            replace(fit, seed=self.seed),
            f"next {self.what}",
            self.report,
            frozen=True,
        )

    def fit_on(self, head: NextHead, windows: NextWindows, earlier: Earlier) -> None:
        """Fit an earlier head to what is new; where nothing is, it stays as it is.

        Raises:
            TrainingError: the loss became NaN.
        """
        if len(windows.train.asked):
            rate = self.config.fit.learning_rate * earlier.refresh.rate
            epochs = earlier.refresh.epochs
            self.fit(head, windows, replace(self.config.fit, epochs=epochs, learning_rate=rate))

    def judged(self, head: NextHead, windows: NextWindows) -> Ranking:
        """How good the head is, and whether that is good enough."""
        past = windows.past
        favourites = popular(past.ids[past.events, head.column])
        judging = _some(windows.judging, JUDGED, self.seed)
        moments, covered, figures = judge(head, self.network, judging, favourites, self.seed)
        least = self.config.least_moments
        if moments < least:
            refused = f"{moments} later moments of held-out users to judge it by, of {least} needed"
            return Ranking(self.what, head.size, moments, covered, refused=refused)
        own = figures[""]
        baselines = {name: found for name, found in figures.items() if name}
        better = [name for name, found in baselines.items() if own[GAIN] <= found[GAIN]]
        refused = f"not better than {' and '.join(better)} by {GAIN}" if better else ""
        return Ranking(self.what, head.size, moments, covered, own, baselines, refused)


def _some(windows: Windows, most: int, seed: int) -> Windows:
    """The windows with moments, at most so many, drawn by seed."""
    asked = windows.asked
    if len(asked) > most:
        asked = np.sort(np.random.default_rng(seed).choice(asked, most, replace=False))
    return windows.take(asked)
