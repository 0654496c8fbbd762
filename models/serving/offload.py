"""A network on a GPU: micro-batches are launched and fetched, and others are formed in between.

A launch carries all inputs of a micro-batch over in one copy (`models/serving/staging.py`), queues
the states and the probabilities behind it, and one copy back behind these. Nothing of it is waited
for before `fetch`. States stay on the device between `scan` and `heads`.

A GPU's matrix kernels are chosen by the shape of the batch, so the last bits of a user's numbers
depend on who else is in it, which on the CPU they do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from models.devices import Precision, arithmetic
from models.serving.staging import Staging
from models.steps import NOTHING, runs_of, windows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.steps import F32, Steps


class Launch(Protocol):
    """Numbers on their way."""

    @property
    def over(self) -> bool:
        """Whether `fetch` has nothing to wait for."""

    def fetch(self) -> tuple[F32, F32]:
        """Wait for them: states [N,H] and probabilities [N,K]. To be called once."""


class Ready:
    """A launch that was over when it began."""

    over = True

    def __init__(self, hidden_NH: F32, probabilities_NK: F32) -> None:
        """Hold the numbers."""
        self._numbers = hidden_NH, probabilities_NK

    def fetch(self) -> tuple[F32, F32]:
        """The numbers."""
        return self._numbers


class Offload:
    """Runs the network of one scorer on its device. One thread at a time."""

    def __init__(
        self,
        module: Any,
        device: torch.device,
        *,
        recurrent: bool,
        history_length: int,
        precision: Precision = "float32",
    ) -> None:
        """Wrap a scripted network that is on `device`.

        Args:
            module: the network, see `models.networks.base`.
            device: where it is; on the CPU all works, and nothing is gained.
            recurrent: whether states go on by `scan`; otherwise they are made by `encode`.
            history_length: the length to which sequences are padded for `encode`.
            precision: of matrix products; all else is single precision.
        """
        self._module = module
        self._device = device
        self._recurrent = recurrent
        self._length = history_length
        self._precision = precision
        self._free: list[Staging] = []

    @property
    def idle(self) -> list[Staging]:
        """The memory that no launch is using: as many blocks as were ever under way at once."""
        return self._free

    def launch(self, stored_SH: F32, steps: Steps, profile_NP: F32) -> Launch:
        """Begin to make states and probabilities of the events of `steps`.

        Args:
            stored_SH: the states that they go on from.
            steps: the way to N states.
            profile_NP: profiles of the users after these events.

        Returns:
            Where to fetch states [N,H] and probabilities [N,K]. The arguments may change at once.
        """
        staging = self._free.pop() if self._free else Staging(self._device)
        shape = len(steps), stored_SH.shape[1]
        packed = self._packed(stored_SH, steps) if all(shape) else []
        # No kernels are fused: what the first calls cost, the later ones do.
        no_fusing = torch.jit.optimized_execution(should_optimize=False)  # type: ignore[attr-defined]
        with torch.inference_mode(), no_fusing, arithmetic(self._device, self._precision):
            profile, *inputs = staging.send([profile_NP, *packed])
            hidden_NH = torch.empty(shape, dtype=torch.float32, device=self._device)
            self._fill(hidden_NH, inputs)
            logits = self._module.heads(hidden_NH, profile)
            staging.receive([hidden_NH, torch.sigmoid(logits.float())])
        return _UnderWay(staging, self._free)

    def _packed(self, stored_SH: F32, steps: Steps) -> list[NDArray[Any]]:
        """The inputs of each call of the network, one after the other; `_fill` takes them so."""
        packed: list[NDArray[Any]] = []
        if not self._recurrent:
            for event_B, (ids_BLC, nums_BLF, length_B) in windows_of(steps, self._length):
                packed += [ids_BLC, nums_BLF, length_B, event_B]
            return packed
        for runs in runs_of(steps):
            begin_BH = stored_SH[runs.stored_B]
            begin_BH[runs.before_B == NOTHING] = 0
            kept_K = np.flatnonzero(runs.kept_BM)
            packed += [begin_BH, runs.ids_BMC, runs.nums_BMF, runs.length_B, kept_K, runs.event_K]
        return packed

    def _fill(self, hidden_NH: torch.Tensor, inputs: list[torch.Tensor]) -> None:
        """Queue the calls that make the states, and put these into their places."""
        if not self._recurrent:
            for at in range(0, len(inputs), 4):
                ids_BLC, nums_BLF, length_B, event_B = inputs[at : at + 4]
                states_BH = self._module.encode(ids_BLC, nums_BLF, length_B)
                hidden_NH.index_copy_(0, event_B, states_BH.float())
            return
        for at in range(0, len(inputs), 6):
            begin_BH, ids_BMC, nums_BMF, length_B, kept_K, event_K = inputs[at : at + 6]
            states_BMH = self._module.scan(begin_BH, ids_BMC, nums_BMF, length_B)
            states_KH = states_BMH.flatten(0, 1).index_select(0, kept_K)
            hidden_NH.index_copy_(0, event_K, states_KH.float())


class _UnderWay:
    """A launch whose numbers the device is making."""

    over = False

    def __init__(self, staging: Staging, free: list[Staging]) -> None:
        self._staging, self._free = staging, free

    def fetch(self) -> tuple[F32, F32]:
        """See `Launch`."""
        hidden_NH, probabilities_NK = self._staging.received()
        # After an error the memory is not used again: a copy may still be writing to it.
        self._free.append(self._staging)
        return hidden_NH, probabilities_NK
