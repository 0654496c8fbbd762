"""A published head ready to rank what users turn to next: NumPy in, names and probabilities out.

A ranking is made of the state after an event and the events up to it, so it is a function of the
user's record then. As in `models/serving/scorer.py` it is the same bits in any company: windows are
padded to one length, since what is summed over them must not depend on the longest of a batch, and
rows to whole blocks.

Shape suffixes: N users, R recent events, V vocabulary, k told; H, C and F as in the networks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.blocks import lengthened, run_in_blocks
from models.errors import ArtifactError
from models.serving.artifact import open_script
from models.serving.manifest import MAX_LENGTH
from models.serving.rankings import Ranked, check_names, script_file

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

AT_ONCE: Final = 256
"""Users who are ranked for by one call, which bounds memory: each has a number per code, and per
pair of recent events."""
PROBED: Final = 8
"""Codes, and places of a ranking, that a golden vector holds."""


class Ranker:
    """One head on one device. Not thread-safe."""

    def __init__(self, what: str, ranked: Ranked, device: torch.device) -> None:
        """Open a head that was published.

        Args:
            what: "category" or "item".
            ranked: verified; the script is code.
            device: where it computes.

        Raises:
            ArtifactError: it cannot be opened, its window has no length that can be, or the names
                are not those of its codes.
        """
        module = open_script(ranked.script, device)
        codes: NDArray[np.int64] = module.codes.cpu().numpy()
        check_names(what, ranked.names, codes)
        self.names: NDArray[np.object_] = np.array(ranked.names, object)
        self.length: int = module.recent
        """Recent events R that it is shown, at most."""
        if not 1 <= self.length <= MAX_LENGTH:
            raise ArtifactError(
                f"{script_file(what)} is shown {self.length} events, not 1 to {MAX_LENGTH}; publish"
                " the model again"
            )
        self._module = module
        self._device = device
        self._probed = codes[np.linspace(0, len(codes) - 1, PROBED).astype(np.intp)]

    def rank(
        self, hidden_NH: F32, ids_NRC: I64, nums_NRF: F32, length_N: I64, k: int
    ) -> tuple[NDArray[np.object_], F32]:
        """The names of the likeliest [N,k], the likeliest first, and their probabilities [N,k].

        Args:
            hidden_NH: states after the last event.
            ids_NRC: recent events, right-padded, oldest first.
            nums_NRF: their numbers.
            length_N: how many there are.
            k: names that are told; all V where there are fewer.

        Returns:
            Codes outside the vocabulary have no name and are left out.
        """
        k = min(k, len(self.names))
        places = np.empty((len(length_N), k), np.int64)
        probabilities = np.empty((len(length_N), k), np.float32)

        def tell(*rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
            told: tuple[torch.Tensor, ...] = self._module.tell(*rows, k)
            return told

        for lo in range(0, len(length_N), AT_ONCE):
            part = slice(lo, lo + AT_ONCE)
            window = self._window(ids_NRC[part], nums_NRF[part])
            found = run_in_blocks(tell, self._device, hidden_NH[part], *window, length_N[part])
            places[part], probabilities[part] = found
        return self.names[places], probabilities

    def golden(self, hidden_NH: F32, ids_NRC: I64, nums_NRF: F32, length_N: I64) -> F32:
        """What a golden vector holds: probabilities of some codes, and of the first of a ranking.

        Not the order: codes of nearly equal probability may change places on another machine.
        """

        def likelihood(*rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
            probed = torch.from_numpy(self._probed).to(self._device)
            told = [
                self._module(*rows, code.expand(len(rows[0]))).exp() for code in probed.unbind()
            ]
            return (torch.stack(told, dim=1),)

        window = self._window(ids_NRC, nums_NRF)
        (probed,) = run_in_blocks(likelihood, self._device, hidden_NH, *window, length_N)
        _, first = self.rank(hidden_NH, ids_NRC, nums_NRF, length_N, PROBED)
        return np.concatenate([probed, first], axis=1)

    def _window(self, ids_NRC: I64, nums_NRF: F32) -> tuple[I64, F32]:
        if ids_NRC.shape[1] >= self.length:
            return ids_NRC, nums_NRF
        return lengthened(ids_NRC, self.length), lengthened(nums_NRF, self.length)
