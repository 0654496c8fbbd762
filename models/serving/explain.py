"""What moved a score: attributions of past events and of the profile, by integrated gradients.

Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (ICML 2017), by captum. The
path leads from a user of whom nothing is known (events that carry no signal, the profile of the
training mean) to the user as they were; what is attributed is the calibrated logit of one target,
and the attributions sum to its difference between the two ends, but for `residual`. The numbers
that tell an event apart enter where the network makes one vector of them (`inputs`): hashes and
type codes have no gradient.

Shape suffixes as in `models/networks/base.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import torch
from captum.attr import IntegratedGradients

from models.inputs.features import F32, PROFILE_FEATURES
from models.networks.sequence import SequenceNetwork
from models.networks.transformer import Block, Transformer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from models.history import I64
    from models.networks.base import Network

STEPS: Final = 64
"""Points on the path from the baseline to the user."""


class Attribution(msgspec.Struct, frozen=True):
    """Where the logit of one target comes from."""

    target: str
    logit: float
    """Of the user."""
    baseline: float
    """Of a user of whom nothing is known."""
    events: tuple[float, ...]
    """Per event, oldest first; empty for a model that reads sums only."""
    profile: dict[str, float]
    """Per profile feature: sums over the whole history, and silence."""
    residual: float
    """What the path's steps left over."""
    attention: tuple[tuple[float, ...], ...] = ()
    """Of a transformer: weight of each event in the last block at the last event, per head."""


def attribute(
    network: Network,
    column: int,
    target: str,
    inputs: tuple[I64, F32, I64],
    profile_P: F32,
    reference_P: F32,
) -> Attribution:
    """Attribute the logit of one user.

    Args:
        network: with the published weights, on the CPU.
        column: of the target.
        target: its name.
        inputs: (ids_1LC, nums_1LF, length_1) of the last events, as `encode` is given them.
        profile_P: features of the user at the moment.
        reference_P: their training means.
    """
    ids, nums, length = (torch.from_numpy(np.ascontiguousarray(array)) for array in inputs)
    profile = torch.from_numpy(profile_P[None].copy())
    reference = torch.from_numpy(np.ascontiguousarray(reference_P[None], np.float32))
    network.eval()
    sequence = isinstance(network, SequenceNetwork) and int(length[0]) > 0
    shown = network.inputs(ids, nums).detach() if sequence else torch.zeros(1, 0, 0)  # type: ignore[operator]

    def logit(x_BLW: Tensor, profile_BP: Tensor) -> Tensor:
        size = len(profile_BP)
        if not sequence:
            return network.heads(network.initial(size), profile_BP)[:, column]
        with _inputs(network, x_BLW):
            hidden = network.encode(
                ids.expand(size, -1, -1), nums.expand(size, -1, -1), length.expand(size)
            )
        return network.heads(hidden, profile_BP)[:, column]

    with torch.no_grad():
        nothing = torch.zeros_like(shown)
        here = float(logit(shown, profile))
        there = float(logit(nothing, reference))
    if sequence:
        method = IntegratedGradients(logit)
        found = method.attribute((shown, profile), (nothing, reference), n_steps=STEPS)
        events = found[0].sum(dim=2)[0, : int(length[0])].tolist()
    else:
        method = IntegratedGradients(lambda profile_BP: logit(shown, profile_BP))
        found = (None, method.attribute(profile, reference, n_steps=STEPS))
        events = []
    features = found[1][0].tolist()
    return Attribution(
        target=target,
        logit=here,
        baseline=there,
        events=tuple(events),
        profile=dict(zip(PROFILE_FEATURES, features, strict=True)),
        residual=here - there - sum(events) - sum(features),
        attention=_attention(network, ids, nums, length) if sequence else (),
    )


class _inputs:  # noqa: N801  # a context manager
    """Gives a network vectors of events in place of those that it would make."""

    def __init__(self, network: Any, x_BLW: Tensor) -> None:
        self._network, self._x = network, x_BLW

    def __enter__(self) -> None:
        self._network.inputs = lambda *_: self._x

    def __exit__(self, *_: object) -> None:
        del self._network.inputs


def _attention(
    network: Network, ids: Tensor, nums: Tensor, length: Tensor
) -> tuple[tuple[float, ...], ...]:
    """Weights [heads, L] with which the last event looks at all, in the last block."""
    if not isinstance(network, Transformer):
        return ()
    block = network.blocks[-1]
    assert isinstance(block, Block)  # noqa: S101  # for mypy
    seen: list[NDArray[np.float32]] = []

    def listen(_: object, arguments: tuple[Tensor, ...]) -> None:
        share, _ = block.weights(*arguments)
        seen.append(share[0, :, int(length[0]) - 1].numpy())

    handle = block.register_forward_pre_hook(listen)
    try:
        with torch.no_grad():
            network.encode(ids, nums, length)
    finally:
        handle.remove()
    return tuple(tuple(row[: int(length[0])].tolist()) for row in seen[0])
