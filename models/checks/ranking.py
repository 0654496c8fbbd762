"""The contract of a head that ranks, on top of any architecture, as checks like those of `checks`.

    check_head(lambda spec: MyNetwork(spec), "item")

Shapes follow the legends of `models/networks/base.py` and `models/networks/next_head.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.blocks import BLOCK
from models.checks.architecture import LENGTH, SCRIPT_TOLERANCE, SEED, Subject
from models.checks.comparing import ContractBroken, close, finite, pass_all, same_bits
from models.networks.base import Network, NetworkSpec
from models.networks.next_head import NextConfig, NextHead
from models.serving.artifact import open_script, script_bytes
from models.serving.rankings import CODES, Ranked
from models.serving.scorer import Scorer, manifest_of

NAMES: Final = 60
"""Of the vocabulary."""
KNOWN: Final = 0.7
"""Share of the events that are of one of them."""
TOLD: Final = 7
SPREAD: Final = 0.3


@dataclass(frozen=True)
class Seen:
    """States and recent events of users; the first has none, the second a full window."""

    hidden: Tensor
    """[B,H]."""
    ids: Tensor
    """[B,R,C]."""
    nums: Tensor
    """[B,R,F]."""
    length: Tensor
    """[B]."""

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the order in which a head takes them."""
        return self.hidden, self.ids, self.nums, self.length

    def arrays(self, part: slice = slice(None)) -> tuple[Any, Any, Any, Any]:
        """The same of some users, as a scorer takes them."""
        hidden, ids, nums, length = (each.numpy()[part] for each in self.all)
        return hidden, ids, nums, length


class HeadSubject:
    """A head under examination, on an architecture whose states it reads."""

    def __init__(self, make: Callable[[NetworkSpec], Network], what: str) -> None:
        """`make` builds a new network; `what` is "category" or "item"."""
        self.subject = Subject(make)
        self.network = self.subject.network()
        self.what = what
        self.column = self.subject.spec.int_features.index(what)
        named = {CODES[what](f"{what} {number}"): f"{what} {number}" for number in range(NAMES)}
        self.codes = torch.tensor(sorted(named))
        self.names = tuple(named[code] for code in self.codes.tolist())

    def fresh(self, seed: int = SEED) -> NextHead:
        """A head as it is before training."""
        counts = torch.arange(len(self.codes) + 1)
        config = NextConfig(self.what, recent=LENGTH)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden_size = self.network.hidden_size
            return NextHead(self.subject.spec, hidden_size, self.codes, counts, config).eval()

    def head(self) -> NextHead:
        """A head with weights that all matter."""
        head = self.fresh()
        generator = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_(0, SPREAD, generator=generator)
        return head

    def seen(self, batch: int = 40) -> Seen:
        """Random histories, mostly of codes of the vocabulary."""
        x = self.subject.inputs(batch, LENGTH)
        rng = np.random.default_rng(SEED)
        drawn = self.codes[torch.from_numpy(rng.integers(0, len(self.codes), x.ids.shape[:2]))]
        known = torch.from_numpy(rng.random(x.ids.shape[:2]) < KNOWN)
        ids = x.ids.clone()
        present = ids[:, :, self.column] != 0
        ids[:, :, self.column] = torch.where(known & present, drawn, ids[:, :, self.column])
        with torch.inference_mode():
            hidden = self.network.encode(ids, x.nums, x.length)
        return Seen(hidden.clone(), ids, x.nums, x.length)

    def scorer(self, head: NextHead) -> Scorer:
        """Network and head as a worker runs them."""
        spec = self.subject.spec
        manifest = manifest_of(
            self.network,
            "checks",
            type(self.network).__name__,
            history_length=LENGTH,
            targets=spec.targets,
            reference_profile=(0.0,) * len(spec.profile_features),
            created_at=1,
        )
        ranked = {self.what: Ranked(script_bytes(head), self.names)}
        return Scorer.of_script(script_bytes(self.network), manifest, ranked=ranked)


HeadCheck = Callable[[HeadSubject], None]


def no_history(subject: HeadSubject) -> None:
    """A user without events is ranked for, and padding is not looked at."""
    head, x = subject.head(), subject.seen()
    nobody = torch.zeros_like(x.length)
    start = subject.network.initial(len(nobody))
    places, told = head.tell(start, x.ids * 0, x.nums * 0, nobody, TOLD)
    _are_probabilities("of nothing", told)
    again, padded = head.tell(start, x.ids, x.nums, nobody, TOLD)
    same_bits("what is told of nothing and of padding", again, places)
    same_bits("probabilities of nothing and of padding", padded, told)


def one_event(subject: HeadSubject) -> None:
    """A user of a single event is ranked for, shown alone as in a longer window."""
    head, x = subject.head(), subject.seen()
    ones = torch.ones_like(x.length)
    _, told = head.tell(x.hidden, x.ids[:, :1], x.nums[:, :1], ones, TOLD)
    _are_probabilities("after one event", told)
    _, padded = head.tell(x.hidden, x.ids, x.nums, ones, TOLD)
    close("probabilities with and without padding", padded, told, SCRIPT_TOLERANCE)


def unknown_codes(subject: HeadSubject) -> None:
    """Codes that training never met, and the largest there are, leave what is known to be told."""
    head, x = subject.head(), subject.seen()
    extreme = torch.tensor([15, 2**32 - 1, 2**16 - 1]).expand_as(x.ids)
    _, told = head.tell(x.hidden, extreme, x.nums, x.length, len(subject.codes))
    _are_probabilities("after unknown codes", told)


def a_year_of_silence(subject: HeadSubject) -> None:
    """A year between two events gives probabilities."""
    head, x = subject.head(), subject.seen()
    nums = x.nums.clone()
    nums[:, 1::2, subject.subject.spec.num_features.index("log_gap_hours")] = float(
        np.log1p(365 * 24)
    )
    _, told = head.tell(x.hidden, x.ids, nums, x.length, TOLD)
    _are_probabilities("after a year", told)


def what_is_told_is_what_is_ranked(subject: HeadSubject) -> None:
    """`tell` has the codes of `rank` that are in the vocabulary, in its order, with its numbers."""
    head, x = subject.head(), subject.seen()
    size = len(subject.codes)
    codes, ranked = head.rank(*x.all, size)
    places, told = head.tell(*x.all, size)
    for row in range(len(x.length)):
        known = torch.isin(codes[row], subject.codes) & (ranked[row] > 0)
        count = int(known.sum())
        where = f"of user {row}"
        same_bits(f"codes told {where}", subject.codes[places[row]][:count], codes[row][known])
        close(f"shares told {where}", told[row][:count], ranked[row][known], SCRIPT_TOLERANCE)


def batch_equals_single(subject: HeadSubject) -> None:
    """A user's ranking is the same bits whatever else is in the batch, however long the windows."""
    scorer = subject.scorer(subject.head())
    x = subject.seen(batch=9 * BLOCK + 5)
    names, told = scorer.rank(subject.what, *x.arrays(), TOLD)
    size = len(x.length)
    for start, stop in ((0, 1), (1, 2), (7, 9), (3, BLOCK + 4), (40, 40 + 2 * BLOCK), (9, size)):
        part = slice(start, stop)
        hidden, ids, nums, length = x.arrays(part)
        longest = max(int(length.max()), 1)
        window = ids[:, :longest], nums[:, :longest], length
        found = scorer.rank(subject.what, hidden, *window, TOLD)
        where = f"of rows {start}:{stop} alone and in the batch"
        same_bits(f"names {where}", found[0], names[part])
        same_bits(f"probabilities {where}", found[1], told[part])


def script_equals_eager(subject: HeadSubject) -> None:
    """The scripted file tells what the Python code does."""
    head, x = subject.head(), subject.seen()
    scripted = open_script(script_bytes(head), torch.device("cpu"))
    with torch.inference_mode():
        places, told = head.tell(*x.all, TOLD)
        for _ in range(3):  # the scripting runtime specialises after the first calls
            found = scripted.tell(*x.all, TOLD)
        same_bits("scripted and eager ranking", found[0], places)
        close("their probabilities", found[1], told, SCRIPT_TOLERANCE)


def save_and_load(subject: HeadSubject) -> None:
    """The weights and the vocabulary are all there is."""
    head, x = subject.head(), subject.seen()
    state = io.BytesIO()
    torch.save(head.state_dict(), state)
    state.seek(0)
    again = subject.fresh(seed=SEED + 1)
    again.load_state_dict(torch.load(state, weights_only=True))
    for found, expected in zip(again.tell(*x.all, TOLD), head.tell(*x.all, TOLD), strict=True):
        same_bits("what is told after loading", found, expected)


HEAD_CHECKS: Final[tuple[HeadCheck, ...]] = (
    no_history,
    one_event,
    unknown_codes,
    a_year_of_silence,
    what_is_told_is_what_is_ranked,
    batch_equals_single,
    script_equals_eager,
    save_and_load,
)


def check_head(make: Callable[[NetworkSpec], Network], what: str) -> None:
    """Put a head on an architecture through all checks.

    Raises:
        ContractBroken: the first check that it does not pass.
    """
    pass_all(HEAD_CHECKS, lambda: HeadSubject(make, what))


def _are_probabilities(what: str, told: Tensor) -> None:
    finite(f"probabilities {what}", told)
    if bool((told < 0).any()) or bool((told.sum(1) > 1 + SCRIPT_TOLERANCE).any()):
        raise ContractBroken(f"probabilities {what}: below 0, or more than 1 in all")
    if bool((told.diff(dim=1) > 0).any()):
        raise ContractBroken(f"probabilities {what}: not the likeliest first")
