"""What the engine asks of a model, and the states that another model left behind.

Shape suffixes as in ``models/networks/base.py``: B batch, L length, H hidden, C, F event features,
P profile features, K targets; N events, S stored states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.inputs.features import ring_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64, Records
    from models.inputs.features import F32
    from models.serving.offload import Launch
    from models.serving.recalibration import Recalibrator
    from models.serving.thresholds import RaiseAt
    from models.steps import Steps
    from models.targets import Target


class ScorerLike(Protocol):
    """What the engine asks of a model (``models.serving.scorer.Scorer``)."""

    version: str
    code: int
    targets: tuple[Target, ...]
    hidden_size: int
    history_length: int
    recurrent: bool
    ranks: tuple[str, ...]
    """What it ranks of what comes next."""
    shown: int
    """Recent events that a ranking is made of, at most."""
    rebuilds: int
    overlaps: bool
    """Whether numbers are still being made when `launch` returns."""
    feature_version: str
    cold_start: bool
    raises: bool
    """Whether it may raise alerts though `churn.raise_untrained` is not set."""
    raise_at: RaiseAt | None
    recalibration: Recalibrator | None
    reference_profile: F32

    def encode(self, ids_BLC: I64, nums_BLF: F32, length_B: I64) -> F32:
        """Hidden states [B,H] of right-padded sequences."""

    def launch(self, stored_SH: F32, steps: Steps, profile_NP: F32) -> Launch:
        """Begin to make `advance` of N events, and `probabilities` of these states."""

    def advance(self, stored_SH: F32, steps: Steps) -> F32:
        """The hidden states [N,H] of N events, on top of the stored ones."""

    def probabilities(self, hidden_BH: F32, profile_BP: F32) -> F32:
        """Probabilities [B,K] before any recalibration."""

    def rank(
        self, what: str, hidden_NH: F32, ids_NRC: I64, nums_NRF: F32, length_N: I64, k: int
    ) -> tuple[NDArray[np.object_], F32]:
        """Names of the likeliest next ones [N,k] of `what`, and their probabilities."""


def refresh(records: Records, rows: NDArray[np.intp], scorer: ScorerLike) -> None:
    """Rebuild the hidden states of ``rows`` that belong to another model, from the ring."""
    stale = rows[records["model"][rows] != np.uint64(scorer.code)]
    if len(stale):
        encode_rows(records, np.unique(stale), scorer)


def encode_rows(records: Records, rows: NDArray[np.intp], scorer: ScorerLike) -> None:
    """Set the hidden states of ``rows`` to ``encode`` of their rings."""
    records["hidden"][rows] = 0
    records["model"][rows] = scorer.code
    known = rows[records["n"][rows] > 0]
    if scorer.hidden_size and len(known):
        hidden = scorer.encode(*ring_inputs(records, known, scorer.history_length))
        records["hidden"][known, : scorer.hidden_size] = hidden
