"""The contract that every architecture keeps, as checks that any can be put through.

A check takes a `Subject` and raises `ContractBroken`, which says what was expected and what was
found. All of them at once: `check_network(lambda spec: MyNetwork(spec))`; one test per check:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_contract(check): check(Subject(MyNetwork))

Shapes follow the legend of `models/networks/base.py`. Inputs are drawn, from a fixed seed.
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
from models.checks.comparing import ContractBroken, close, finite, pass_all, same_bits, same_shape
from models.devices import HALF_TOLERANCE
from models.networks.base import Network, NetworkSpec
from models.serving.artifact import open_script, script_bytes
from models.serving.scorer import Scorer, manifest_of, network_spec
from models.targets import shop_targets

DAY: Final = 86_400_000
SEED: Final = 11
LENGTH: Final = 24
"""Events of the longest history that is shown."""
PARAMETER_SPREAD: Final = 0.3
STEP_TOLERANCE: Final = 1e-5
SCRIPT_TOLERANCE: Final = 1e-5


@dataclass(frozen=True)
class Inputs:
    """Right-padded sequences and profiles; the first row is empty, the second is full."""

    ids: Tensor
    """[B,L,C]."""
    nums: Tensor
    """[B,L,F]."""
    length: Tensor
    """[B]."""
    profile: Tensor
    """[B,P]."""


class Subject:
    """An architecture under examination."""

    def __init__(
        self, make: Callable[[NetworkSpec], Network], spec: NetworkSpec | None = None
    ) -> None:
        """`make` builds a new network; `spec` is that of a shop unless given."""
        self.spec = spec or network_spec(shop_targets(6, 7 * DAY, 30 * DAY))
        self._make = make

    def fresh(self, seed: int = SEED) -> Network:
        """A network as it is before training."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._make(self.spec).eval()

    def network(self) -> Network:
        """A network with weights, standardisation and calibration that all matter."""
        network = self.fresh()
        generator = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, PARAMETER_SPREAD, generator=generator)
        profile, nums = len(self.spec.profile_features), len(self.spec.num_features)
        network.set_standardisation(
            torch.ones(profile), torch.full((profile,), 2.0), torch.ones(nums), torch.ones(nums)
        )
        half = self.inputs().ids[::2]
        network.observe(half.reshape(-1, half.size(2)))
        slopes = torch.linspace(0.9, 1.1, len(self.spec.targets))
        network.set_calibration(slopes, slopes - 1)
        return network

    def inputs(self, batch: int = 40, length: int = LENGTH, seed: int = 5) -> Inputs:
        """Random sequences of 0 to `length` events."""
        rng = np.random.default_rng(seed)
        lengths = rng.integers(0, length + 1, batch)
        lengths[:2] = (0, length)
        valid = np.arange(length) < lengths[:, None]
        codes = (rng.integers(1, high, (batch, length)) for high in (8, 1 << 32, 1 << 16))
        ids = np.stack(list(codes), axis=2) * valid[..., None]
        nums = np.abs(rng.normal(1, 1, (batch, length, len(self.spec.num_features))))
        profile = np.abs(rng.normal(2, 2, (batch, len(self.spec.profile_features))))
        return Inputs(
            torch.from_numpy(ids),
            torch.from_numpy((nums * valid[..., None]).astype(np.float32)),
            torch.from_numpy(lengths),
            torch.from_numpy(profile.astype(np.float32)),
        )

    def scorer(self, network: Network) -> Scorer:
        """The network as a worker runs it."""
        manifest = manifest_of(
            network,
            "checks",
            type(network).__name__,
            history_length=LENGTH,
            targets=self.spec.targets,
            reference_profile=(0.0,) * len(self.spec.profile_features),
            created_at=1,
        )
        return Scorer.of_script(script_bytes(network), manifest)


Check = Callable[[Subject], None]


def empty_history(subject: Subject) -> None:
    """A user without events has the initial state, and a finite score."""
    network, x = subject.network(), subject.inputs()
    hidden = network.encode(x.ids * 0, x.nums * 0, x.length * 0)
    same_shape("encode of nothing", hidden, (len(x.ids), network.hidden_size))
    same_bits("encode of padding and the initial state", hidden, network.initial(len(x.ids)))
    finite("heads of nothing", network.heads(hidden, x.profile * 0))
    nothing = network.encode(x.ids[:, :0], x.nums[:, :0], x.length * 0)
    same_bits("encode of no column and of padding", nothing, hidden)


def one_event(subject: Subject) -> None:
    """A history of a single event is scored."""
    network, x = subject.network(), subject.inputs()
    ones = torch.ones_like(x.length)
    hidden = network.encode(x.ids[:, :1], x.nums[:, :1], ones)
    finite("heads after one event", network.heads(hidden, x.profile))


def unknown_items(subject: Subject) -> None:
    """Codes that training never met, and the largest there are, are scored."""
    network, x = subject.network(), subject.inputs()
    extreme = torch.tensor([15, 2**32 - 1, 2**16 - 1]).expand_as(x.ids)
    hidden = network.encode(extreme, x.nums, x.length)
    finite("heads after unknown items", network.heads(hidden, x.profile))


def a_year_of_silence(subject: Subject) -> None:
    """A year without an event gives a probability, between the events and after the last."""
    network, x = subject.network(), subject.inputs()
    year = float(np.log1p(365 * 24))
    nums, profile = x.nums.clone(), x.profile.clone()
    nums[:, 1::2, subject.spec.num_features.index("log_gap_hours")] = year
    for name in ("log_silence_hours", "log_since_purchase_hours", "log_tenure_hours"):
        profile[:, subject.spec.profile_features.index(name)] = year
    hidden = network.encode(x.ids, nums, x.length)
    probabilities = torch.sigmoid(network.heads(hidden, profile))
    finite("probabilities after a year", probabilities)


def batch_equals_single(subject: Subject) -> None:
    """A user's numbers are the same bits whatever else is in the batch."""
    network = subject.network()
    scorer = subject.scorer(network)
    x = subject.inputs(batch=3 * BLOCK + 5)
    ids, nums, length, profile = _arrays(x)
    hidden = scorer.encode(ids, nums, length)
    probabilities = scorer.probabilities(hidden, profile)
    states = scorer.scan(hidden, ids, nums, length) if scorer.recurrent else hidden
    for start, stop in ((0, 1), (1, 2), (7, 9), (3, BLOCK + 4), (50, len(ids))):
        part = slice(start, stop)
        where = f"of rows {start}:{stop} alone and in the batch"
        alone = scorer.encode(ids[part], nums[part], length[part])
        same_bits(f"encode {where}", alone, hidden[part])
        if scorer.recurrent:
            found = scorer.scan(hidden[part], ids[part], nums[part], length[part])
            same_bits(f"scan {where}", found, states[part])
        found = scorer.probabilities(hidden[part], profile[part])
        same_bits(f"probabilities {where}", found, probabilities[part])


def any_cut_gives_the_same_bits(subject: Subject) -> None:
    """Where batches begin and end does not show in the state."""
    scorer = subject.scorer(subject.network())
    x = subject.inputs(batch=6)
    ids, nums, length, _ = _arrays(x)
    whole = scorer.encode(ids, nums, length)
    if not scorer.recurrent:
        shorter = int(length[2:].max())
        cut = scorer.encode(ids[2:, :shorter], nums[2:, :shorter], length[2:])
        same_bits("encode with less padding", cut, whole[2:])
        return
    hidden = np.zeros((len(ids), scorer.hidden_size), np.float32)
    for lo, hi in ((0, 1), (1, 2), (2, 9), (9, LENGTH)):
        size = np.clip(length - lo, 0, hi - lo)
        hidden = scorer.scan(hidden, ids[:, lo:hi], nums[:, lo:hi], size)[:, -1]
    same_bits("scan in four parts and encode", hidden, whole)


def script_equals_eager(subject: Subject) -> None:
    """The scripted file computes what the Python code does."""
    network, x = subject.network(), subject.inputs()
    scripted = open_script(script_bytes(network), torch.device("cpu"))
    with torch.inference_mode():
        expected = network.encode(x.ids, x.nums, x.length)
        for _ in range(3):  # the scripting runtime specialises after the first calls
            hidden = scripted.encode(x.ids, x.nums, x.length)
            logits = scripted.heads(hidden, x.profile)
        close("scripted and eager encode", hidden, expected, SCRIPT_TOLERANCE)
        close("heads", logits, network.heads(expected, x.profile), 10 * SCRIPT_TOLERANCE)


def step_equals_encode(subject: Subject) -> None:
    """Event by event, all at once and in training the states are the same.

    Without recurrence there is no step; the state after each event is `encode` up to it.
    """
    network, x = subject.network(), subject.inputs()
    with torch.inference_mode():
        scanned = network.scan(network.initial(len(x.ids)), x.ids, x.nums, x.length)
        encoded = network.encode(x.ids, x.nums, x.length)
        close("last of scan and encode", scanned[:, -1], encoded, STEP_TOLERANCE)
        hidden = network.initial(len(x.ids))
        for place in range(x.ids.size(1)):
            up_to = torch.minimum(x.length, torch.tensor(place + 1))
            shown = slice(0, place + 1)
            after = network.encode(x.ids[:, shown], x.nums[:, shown], up_to)
            if network.recurrent:
                stepped = network.step(hidden, x.ids[:, place], x.nums[:, place])
                hidden = torch.where((place < x.length).unsqueeze(1), stepped, hidden)
                close(f"step and encode of {place + 1} events", hidden, after, STEP_TOLERANCE)
            close(f"scan at event {place}", scanned[:, place], after, STEP_TOLERANCE)
    for module in network.modules():
        if not isinstance(module, torch.nn.Dropout):
            module.training = True
    with torch.no_grad():
        trained = network.scan(network.initial(len(x.ids)), x.ids, x.nums, x.length)
    close("scan in training and in serving", trained, scanned, STEP_TOLERANCE)


def save_and_load(subject: Subject) -> None:
    """The weights are all there is: another network with them gives the same bits."""
    network, x = subject.network(), subject.inputs()
    state = io.BytesIO()
    torch.save(network.state_dict(), state)
    state.seek(0)
    again = subject.fresh(seed=SEED + 1)
    again.load_state_dict(torch.load(state, weights_only=True))
    hidden = network.encode(x.ids, x.nums, x.length)
    same_bits("states after loading", again.encode(x.ids, x.nums, x.length), hidden)
    same_bits(
        "heads after loading", again.heads(hidden, x.profile), network.heads(hidden, x.profile)
    )


def half_precision(subject: Subject) -> None:
    """Under autocast on a CPU the probabilities stay near those of single precision."""
    network, x = subject.network(), subject.inputs()
    with torch.inference_mode():
        expected = _probabilities(network, x)
        for kind, tolerance in HALF_TOLERANCE.items():
            with torch.autocast("cpu", dtype=kind):
                found = _probabilities(network, x).float()
            finite(f"probabilities in {kind}", found)
            close(f"probabilities in {kind} and float32", found, expected, tolerance)


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Training can move every weight."""
    network, x = subject.network().train(), subject.inputs()
    states = network.scan(network.initial(len(x.ids)), x.ids, x.nums, x.length)
    logits = network.heads(states[:, -1], x.profile)
    if not any(True for _ in network.parameters()):
        return
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is None or not bool(parameter.grad.abs().sum() > 0):
            raise ContractBroken(f"no gradient reaches parameter {name}")
        finite(f"gradient of {name}", parameter.grad)


def same_seed_same_network(subject: Subject) -> None:
    """A seed decides the weights, also those of another seed differ, and so the scores."""
    x = subject.inputs()
    first, second = subject.fresh(), subject.fresh()
    for name, tensor in first.state_dict().items():
        same_bits(f"{name} from the same seed", second.state_dict()[name], tensor)
    same_bits(
        "states from the same seed",
        first.encode(x.ids, x.nums, x.length),
        second.encode(x.ids, x.nums, x.length),
    )


def calibration_is_a_line(subject: Subject) -> None:
    """`set_calibration` changes the logits by slope and shift, and nothing else."""
    network, x = subject.network(), subject.inputs()
    targets = len(subject.spec.targets)
    slope, shift = torch.linspace(0.5, 2, targets), torch.linspace(-1, 0.25, targets)
    with torch.inference_mode():
        hidden = network.encode(x.ids, x.nums, x.length)
        network.set_calibration(torch.ones(targets), torch.zeros(targets))
        raw = network.heads(hidden, x.profile)
        network.set_calibration(slope, shift)
        close("calibrated logits", network.heads(hidden, x.profile), raw * slope + shift, 1e-4)


CHECKS: Final[tuple[Check, ...]] = (
    empty_history,
    one_event,
    unknown_items,
    a_year_of_silence,
    batch_equals_single,
    any_cut_gives_the_same_bits,
    script_equals_eager,
    step_equals_encode,
    save_and_load,
    half_precision,
    gradients_reach_every_parameter,
    same_seed_same_network,
    calibration_is_a_line,
)


def check_network(make: Callable[[NetworkSpec], Network]) -> None:
    """Put an architecture through all checks.

    Raises:
        ContractBroken: the first check that it does not pass.
    """
    pass_all(CHECKS, lambda: Subject(make))


def _arrays(x: Inputs) -> tuple[Any, Any, Any, Any]:
    return x.ids.numpy(), x.nums.numpy(), x.length.numpy(), x.profile.numpy()


def _probabilities(network: Network, x: Inputs) -> Tensor:
    return torch.sigmoid(network.heads(network.encode(x.ids, x.nums, x.length), x.profile))
