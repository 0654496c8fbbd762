"""A verified model ready to score: NumPy in, NumPy out, the device handled inside.

Shapes follow the legend of `models/networks/base.py`. A batch is padded to whole blocks of rows
before it reaches the network (`models/blocks.py`), so that a user's numbers are the same bits
whatever else is in the batch. What the model ranks besides its targets is
`models/serving/ranker.py`'s. The recurrence of a GRU on the CPU is a kernel of our own
(``models/kernels/recurrence.py``): what batches cannot do for it is to make a long run of one user
fast.
On a GPU micro-batches are launched and fetched (`models/serving/offload.py`).
The number of torch threads is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.blocks import lengthened, run_in_blocks
from models.devices import HALF_TOLERANCE, Precision, pick_device
from models.encoding import hash64
from models.errors import ArtifactError
from models.inputs import features
from models.kernels.recurrence import gru_states
from models.monitoring.drift import Reference
from models.networks.base import Network, NetworkSpec
from models.networks.rhythm import Rhythm, RhythmConfig
from models.serving.artifact import Artifact, Golden, open_script, read_artifact, script_bytes
from models.serving.golden import GOLDEN_TOLERANCE, golden_inputs, require_close, require_shapes
from models.serving.identity import Identity
from models.serving.manifest import Manifest
from models.serving.offload import Launch, Offload, Ready
from models.serving.ranker import Ranker
from models.serving.rankings import Ranked
from models.serving.recalibration import Recalibrator
from models.serving.signing import ManifestCheck
from models.steps import Steps, advance_by_scan, encode_windows
from models.targets import Target, of_purchases

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

REBUILT: Final = 16
"""A state of longer histories costs more to rebuild than to store."""
WARM_UP_ROUNDS: Final = 3
REASON_LENGTH: Final = 300
"""Characters of what a model raises that are kept, the last ones."""
RHYTHM_VERSION: Final = "rhythm-1"


def network_spec(targets: tuple[Target, ...]) -> NetworkSpec:
    """The spec of networks that read this release's features."""
    return NetworkSpec(
        features.INT_FEATURES, features.NUM_FEATURES, features.PROFILE_FEATURES, targets
    )


class Scorer:
    """One model on one device. Not thread-safe; cheap to hold two of."""

    def __init__(
        self,
        module: Any,
        identity: Identity,
        device: torch.device,
        golden: Golden,
        precision: Precision = "float32",
        ranked: Mapping[str, Ranked] | None = None,
    ) -> None:
        """Wrap a scripted module; use `load`, `of_network` or `rhythm` instead."""
        self._module = module
        self._device = device
        self._golden = golden
        self.version = identity.version
        self.architecture = identity.architecture
        self.targets = identity.targets
        self.hidden_size = identity.hidden_size
        self.history_length = identity.history_length
        self.recurrent = identity.recurrent
        """False: states are made anew by `encode` from the last events, never by `scan`."""
        self.feature_version = identity.feature_version
        self.cold_start = identity.cold_start
        self.raises = identity.raises
        """Whether it may raise alerts by default."""
        self.raise_at = identity.raise_at
        """From which risk on, where that was learnt."""
        self.reference = identity.reference or Reference()
        """How its inputs were distributed in training."""
        self.reference_profile = identity.reference_profile
        self.code: int = hash64(identity.version)
        """Hash of the version: what user records keep beside the hidden state."""
        self.recalibration: Recalibrator | None = None
        """Maps of its probabilities, which `models.serving.recalibration.recalibrated` applies."""
        self.device = str(device)
        self.overlaps = device.type != "cpu"
        """Whether `launch` returns before the numbers are made."""
        self._rankers = {what: Ranker(what, one, device) for what, one in (ranked or {}).items()}
        self.ranks = tuple(self._rankers)
        """What it ranks of what comes next: "category", "item"."""
        self.shown = max((own.length for own in self._rankers.values()), default=0)
        """Recent events that a ranking is made of, at most."""
        self.precision: Precision = precision if self.overlaps else "float32"
        """Of what `launch` multiplies; all else is made in single precision."""
        self._offload = self._offloaded() if self.overlaps else None
        self._recurrence = None if self.overlaps else _recurrence(module)
        self.rebuilds = min(self.history_length, REBUILT) if self._recurrence else 0
        """A state after at most so many events need not be stored: `encode` gives the same bits."""

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        *,
        precision: Precision = "float32",
        expected_version: str | None = None,
        expected_digest: str | None = None,
        check: ManifestCheck | None = None,
    ) -> Scorer:
        """Read, verify, open and warm up a published model, and compare its golden vector.

        Raises:
            ArtifactError: it must not be used; the message says why and what to do.
        """
        artifact = read_artifact(
            folder,
            feature_version=features.FEATURE_VERSION,
            expected_version=expected_version,
            expected_digest=expected_digest,
            check=check,
        )
        try:
            scorer = cls.of_artifact(artifact, device, precision)
            scorer.warm_up()
            scorer.verify_golden()
        except ArtifactError:
            raise
        except Exception as error:
            # A model is code: it may raise whatever it likes, `torch.jit.Error` to begin with.
            raise ArtifactError(
                f"{folder}: the model does not run as networks of this release do:"
                f" {type(error).__name__}: {' '.join(str(error).split())[-REASON_LENGTH:]}; train"
                " and publish a model with this release"
            ) from error
        return scorer

    @classmethod
    def of_artifact(
        cls, artifact: Artifact, device: str = "auto", precision: Precision = "float32"
    ) -> Scorer:
        """Open a verified artifact."""
        where = pick_device(device)
        module = open_script(artifact.script, where)
        identity = Identity.of(artifact.manifest)
        return cls(module, identity, where, artifact.golden, precision, artifact.ranked)

    @classmethod
    def of_script(
        cls,
        script: bytes,
        manifest: Manifest,
        device: str = "cpu",
        golden: Golden | None = None,
        precision: Precision = "float32",
        ranked: Mapping[str, Ranked] | None = None,
    ) -> Scorer:
        """Open a script that this process has just made (training, measuring, tests)."""
        where = pick_device(device)
        module = open_script(script, where)
        return cls(module, Identity.of(manifest), where, golden or {}, precision, ranked)

    @classmethod
    def rhythm(
        cls,
        targets: tuple[Target, ...],
        config: RhythmConfig | None = None,
        device: str = "cpu",
    ) -> Scorer:
        """The closed-form model served before any is published, marked `cold_start`."""
        network = Rhythm(network_spec(of_purchases(targets)), config)
        identity = Identity(
            RHYTHM_VERSION,
            "rhythm",
            of_purchases(targets),
            0,
            1,
            features.FEATURE_VERSION,
            cold_start=True,
            raises=False,
            reference_profile=np.zeros(len(features.PROFILE_FEATURES), np.float32),
        )
        where = pick_device(device)
        scorer = cls(open_script(script_bytes(network), where), identity, where, {})
        scorer.warm_up()
        return scorer

    def launch(self, stored_SH: F32, steps: Steps, profile_NP: F32) -> Launch:
        """Begin to make the states and probabilities of the events of ``steps``.

        On the CPU they are made when this returns, by `advance` and `probabilities`.
        """
        if self._offload is not None:
            return self._offload.launch(stored_SH, steps, profile_NP)
        hidden_NH = self.advance(stored_SH, steps)
        return Ready(hidden_NH, self.probabilities(hidden_NH, profile_NP))

    def advance(self, stored_SH: F32, steps: Steps) -> F32:
        """The states [N,H] of the events of ``steps``, each with the same bits in any company.

        Of a model that is not recurrent every event of ``steps`` brings its whole window.
        """
        if not self.recurrent:
            return encode_windows(steps, self.hidden_size, self.encode)
        if self._recurrence is None:
            return advance_by_scan(stored_SH, steps, self.scan)
        if len(steps) == 0:
            return np.empty((0, self.hidden_size), np.float32)
        drive_MG = self._run(self._module.drive, steps.ids_MC, steps.nums_MF)
        begin_NH = stored_SH[steps.state_N]
        states_NH: F32 = gru_states(
            *self._recurrence, begin_NH, drive_MG, steps.before_N, steps.start_N
        )
        return states_NH

    def encode(self, ids_BLC: I64, nums_BLF: F32, length_B: I64) -> F32:
        """Hidden states [B,H] of right-padded sequences of at most `history_length` events.

        Where the model is not recurrent every sequence is padded to that length first: attention
        sums over it, and the same events must give the same bits whatever else is in the batch.
        """
        if self._recurrence is None:
            if not self.recurrent and ids_BLC.shape[1] < self.history_length:
                ids_BLC = lengthened(ids_BLC, self.history_length)
                nums_BLF = lengthened(nums_BLF, self.history_length)
            return self._run(self._module.encode, ids_BLC, nums_BLF, length_B)
        hidden_BH = np.zeros((len(ids_BLC), self.hidden_size), np.float32)
        steps = Steps.of_sequences(ids_BLC, nums_BLF, length_B)
        known = length_B > 0
        hidden_BH[known] = self.advance(hidden_BH, steps)[np.cumsum(length_B)[known] - 1]
        return hidden_BH

    def scan(self, hidden_BH: F32, ids_BMC: I64, nums_BMF: F32, length_B: I64) -> F32:
        """Every hidden state [B,M,H] of M more events; a shorter row repeats its last one.

        Not for models that are not recurrent: see `encode`.
        """
        if self._recurrence is None:
            return self._run(self._module.scan, hidden_BH, ids_BMC, nums_BMF, length_B)
        steps = Steps.of_sequences(ids_BMC, nums_BMF, length_B)
        states_NH = self.advance(hidden_BH, steps)
        states_BMH = np.repeat(hidden_BH[:, None], ids_BMC.shape[1], axis=1)
        known = length_B > 0
        place = np.minimum(np.arange(ids_BMC.shape[1]), length_B[known, None] - 1)
        first = np.cumsum(length_B) - length_B
        states_BMH[known] = states_NH[first[known, None] + place]
        return states_BMH

    def probabilities(self, hidden_BH: F32, profile_BP: F32) -> F32:
        """Calibrated probabilities [B,K] in the order of `targets`."""
        return self._run(self._probabilities, hidden_BH, profile_BP)

    def rank(
        self, what: str, hidden_NH: F32, ids_NRC: I64, nums_NRF: F32, length_N: I64, k: int
    ) -> tuple[NDArray[np.object_], F32]:
        """Names of the k likeliest next ones [N,k] of `what`, one of `ranks`; see `Ranker.rank`."""
        return self._rankers[what].rank(hidden_NH, ids_NRC, nums_NRF, length_N, k)

    def warm_up(self) -> None:
        """Run every method a few times, so that the first event does not pay for set-up.

        Raises:
            ArtifactError: a method returns another shape than it must.
        """
        inputs = golden_inputs(self.hidden_size)
        for _ in range(WARM_UP_ROUNDS):
            found = self.golden_outputs(inputs)
            require_shapes(self.version, inputs, found, self.hidden_size, len(self.targets))

    def golden_outputs(self, inputs: Golden) -> dict[str, F32]:
        """What this model makes of golden inputs."""
        window = inputs["ids"], inputs["nums"], inputs["length"]
        hidden = self.encode(*window)
        return {
            "hidden": hidden,
            "states": self.scan(hidden, *window),
            "probabilities": self.probabilities(hidden, inputs["profile"]),
            **{f"next_{what}": own.golden(hidden, *window) for what, own in self._rankers.items()},
        }

    def verify_golden(self, tolerance: float = GOLDEN_TOLERANCE) -> None:
        """Compare this machine's results with those recorded when the model was published.

        Raises:
            ArtifactError: they differ by more than `tolerance`, or nothing was recorded.
        """
        try:
            if len(self._golden["ids"]) == 0:
                raise ArtifactError(
                    f"model {self.version}: golden.npz is empty; publish the model again"
                )
            outputs = self.golden_outputs(self._golden)
            for name, found in outputs.items():
                require_close(
                    f"model {self.version}: golden {name}",
                    found,
                    self._golden[name],
                    tolerance,
                    f"on {self.device}: it is refused; publish it again, or run on the kind of"
                    " device it was made on",
                )
            if self._offload is not None:
                self._verify_launch(self._offload)
        except KeyError as error:
            raise ArtifactError(
                f"model {self.version}: golden.npz has no {error}; publish the model again"
            ) from error

    def _offloaded(self) -> Offload:
        return Offload(
            self._module,
            self._device,
            recurrent=self.recurrent,
            history_length=self.history_length,
            precision=self.precision,
        )

    def _verify_launch(self, offload: Offload) -> None:
        """Compare what is launched with what is asked for step by step, on the golden inputs."""
        inputs = golden_inputs(self.hidden_size)
        steps = Steps.of_sequences(inputs["ids"], inputs["nums"], inputs["length"])
        stored_BH = np.zeros((len(inputs["ids"]), self.hidden_size), np.float32)
        profile_NP = inputs["profile"][steps.state_N]
        expected_NK = self.probabilities(self.advance(stored_BH, steps), profile_NP)
        _, found_NK = offload.launch(stored_BH, steps, profile_NP).fetch()
        half = self.precision == "half"
        require_close(
            f"model {self.version}: a golden probability in {self.precision} precision",
            found_NK,
            expected_NK,
            HALF_TOLERANCE[torch.float16] if half else GOLDEN_TOLERANCE,
            f"on {self.device}: set worker.precision to float32, or worker.device to cpu",
        )

    def _probabilities(self, hidden_BH: torch.Tensor, profile_BP: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self._module.heads(hidden_BH, profile_BP))

    def _run(self, function: Callable[..., torch.Tensor], *arrays: NDArray[Any]) -> F32:
        (out,) = run_in_blocks(lambda *rows: (function(*rows),), self._device, *arrays)
        return out


def _recurrence(module: Any) -> tuple[F32, F32] | None:
    """Weights [H,3H] and biases of a network whose recurrence is a GRU's and that tells them."""
    if not hasattr(module, "recurrence") or not hasattr(module, "drive"):
        return None
    with torch.inference_mode():
        weight, bias = module.recurrence()
    return np.ascontiguousarray(weight.detach().numpy().T), bias.detach().numpy().copy()


def make_golden(
    script: bytes, manifest: Manifest, ranked: Mapping[str, Ranked] | None = None
) -> Golden:
    """Golden inputs with the outputs that the scripted model gives on this machine's CPU."""
    inputs = golden_inputs(manifest.hidden_size)
    scorer = Scorer.of_script(script, manifest, ranked=ranked)
    return {**inputs, **scorer.golden_outputs(inputs)}


def manifest_of(network: Network, version: str, architecture: str, **figures: Any) -> Manifest:
    """The manifest of a network that reads this release's features."""
    return Manifest(
        version=version,
        architecture=architecture,
        feature_version=features.FEATURE_VERSION,
        hidden_size=network.hidden_size,
        recurrent=network.recurrent,
        profile_features=features.PROFILE_FEATURES,
        torch_version=str(torch.__version__),
        **figures,
    )
