"""The TorchScript GRU over users' last events, for peers.

Their features are plainer than the product's (two numbers of an event, an empty profile), which
costs them less; the network is the same file.
"""

import math
import zlib
from pathlib import Path

import torch

from benchmarks.peers.task import Entry

NUMBERS = 8
PROFILE = 21


class Gru:
    """Scores whole histories, several users at once."""

    def __init__(self, path: Path) -> None:
        """Load the network; one thread, as everybody."""
        torch.set_num_threads(1)
        self._network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def scores(self, histories: list[list[Entry]]) -> list[float]:
        """The first target's probability of each history."""
        length = max(map(len, histories))
        ids = [[_ids(e) for e in h] + [(0, 0, 0)] * (length - len(h)) for h in histories]
        nothing = [0.0] * NUMBERS
        nums = [_numbers(h) + [nothing] * (length - len(h)) for h in histories]
        no_fusing = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
        with torch.inference_mode(), no_fusing:
            hidden = self._network.encode(
                torch.tensor(ids), torch.tensor(nums), torch.tensor([len(h) for h in histories])
            )
            logits = self._network.heads(hidden, torch.zeros(len(histories), PROFILE))
            scores: list[float] = torch.sigmoid(logits[:, 0]).tolist()
        return scores


def _ids(entry: Entry) -> tuple[int, int, int]:
    _, code, item, category, _ = entry
    return code, zlib.crc32((item or "").encode()), zlib.crc32((category or "").encode()) & 0xFFFF


def _numbers(history: list[Entry]) -> list[list[float]]:
    rows, before = [], history[0][0]
    for time, _, _, _, amount in history:
        gap = math.log1p(max(time - before, 0) / 3_600_000)
        rows.append([gap, 0.0, 0.0, 0.0, 0.0, 0.0, math.log1p(amount), 0.0])
        before = time
    return rows
