"""How good a ranking of what comes next is, beside two that need no model.

Of a moment there is one right answer, the code that came. The baselines are popularity, and what
was there lately: the user's last codes, the latest first, and then popularity again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.fitting.stepping import by_length
from models.networks.base import Network
from models.networks.next_head import NextHead
from models.ranking.fit import Windows, moments, states

I64 = NDArray[np.int64]
Figures = dict[str, float]

TOP: Final = 10
"""Places of a ranking that count."""
POPULARITY: Final = "popularity"
RECENT: Final = "recent"
GAIN: Final = f"ndcg_{TOP}"
"""What a ranking is judged by."""
AT_ONCE: Final = 16
"""Windows that are ranked for at a time."""


def gain(place: int) -> float:
    """Discounted gain of a single right answer at a place of a ranking, the first being 0."""
    return float(1 / np.log2(place + 2))


def hits(ranked: I64, truth: int) -> tuple[float, float]:
    """(hit, discounted gain) of the first `TOP` of a ranking, with a single right answer."""
    place = np.flatnonzero(ranked[:TOP] == truth)
    if len(place) == 0:
        return 0.0, 0.0
    return 1.0, gain(int(place[0]))


def distinct(own: I64, others: I64) -> I64:
    """The distinct ones of `own` in their order, then of `others`."""
    both = np.concatenate([own, others])
    _, first = np.unique(both, return_index=True)
    return both[np.sort(first)]


def popular(codes_N: I64) -> I64:
    """The `TOP` most frequent codes of N events; 0 is no code."""
    codes, counts = np.unique(codes_N[codes_N != 0], return_counts=True)
    return codes[np.argsort(-counts, kind="stable")[:TOP]]


def judge(
    head: NextHead, network: Network | None, windows: Windows, favourites: I64, seed: int
) -> tuple[int, float, Mapping[str, Figures]]:
    """What the head and the baselines tell of moments of windows, drawn by `seed`.

    Args:
        head: judged by what it can tell: codes of its vocabulary.
        network: whose states it reads; None: of no state.
        windows: whose moments are asked for.
        favourites: the most popular codes of before.
        seed: of the moments of long windows.

    Returns:
        How many moments there are, the share of them whose truth is in the vocabulary, and the
        figures: of the head by "", of the baselines by their names.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float]]] = {"": [], POPULARITY: [], RECENT: []}
    covered = 0
    with torch.inference_mode():
        for part in by_length(windows.length, AT_ONCE):
            batch = moments(windows.take(part), head.column, rng)
            if not len(batch.row):
                continue
            window = batch.recent(head.recent)
            places, _ = head.tell(states(network, batch), *window, min(TOP, head.size))
            told, truths = head.codes[places].numpy(), batch.truth.numpy()
            covered += int((head.places(batch.truth) < head.size).sum())
            for codes, length, ranked, truth in zip(
                window[0][:, :, head.column].numpy(), window[2].tolist(), told, truths, strict=True
            ):
                lately = codes[:length][::-1]
                found[""].append(hits(ranked, truth))
                found[POPULARITY].append(hits(favourites, truth))
                found[RECENT].append(hits(distinct(lately[lately != 0], favourites), truth))
    count = len(found[""])
    figures = {
        name: dict(zip((f"hr_{TOP}", GAIN), np.mean(each, axis=0).tolist(), strict=True))
        for name, each in found.items()
        if each
    }
    return count, covered / max(count, 1), figures
