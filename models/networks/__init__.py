"""The architectures: one file each, one TorchScript interface (`base.Network`).

The table below is the one place where an architecture is named. It imports none of them, so that
the settings can read the names without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from models.errors import ModelError

if TYPE_CHECKING:
    from models.networks.base import Network, NetworkSpec

__all__ = ["ARCHITECTURES", "HIDDEN_SIZE", "Architecture", "build", "convex", "trainable"]

HIDDEN_SIZE: Final = 64
"""Width of the state of a network over sequences, at most."""


@dataclass(frozen=True)
class Architecture:
    """Where an architecture is, and what training needs to know about it."""

    network: str
    """Module and class, "module:Class"; the class takes a `NetworkSpec` and a configuration."""
    config: str | None = None
    """Module and class of a configuration with `hidden_size`; None: the network has no state."""
    convex: bool = False
    """The network reads the profile only: its fit needs no early stopping and no pre-training."""
    trainable: bool = True
    """Whether `train.architecture` may name it."""


ARCHITECTURES: Final[dict[str, Architecture]] = {
    "logistic": Architecture("models.networks.logistic:Logistic", convex=True),
    "blend": Architecture("models.networks.blend:Blend", convex=True),
    "gru": Architecture("models.networks.gru:Gru", "models.networks.sequence:SequenceConfig"),
    "lstm": Architecture("models.networks.lstm:Lstm", "models.networks.sequence:SequenceConfig"),
    "lru": Architecture("models.networks.lru:Lru", "models.networks.lru:LruConfig"),
    "transformer": Architecture(
        "models.networks.transformer:Transformer", "models.networks.transformer:TransformerConfig"
    ),
    "rhythm": Architecture("models.networks.rhythm:Rhythm", trainable=False),
}
"""Name -> architecture."""


def trainable() -> tuple[str, ...]:
    """The names that `train.architecture` accepts."""
    return tuple(name for name, each in ARCHITECTURES.items() if each.trainable)


def convex(architecture: str) -> bool:
    """Whether the named architecture reads the profile only; False where there is no such name."""
    return architecture in ARCHITECTURES and ARCHITECTURES[architecture].convex


def build(architecture: str, spec: NetworkSpec, hidden_size: int = HIDDEN_SIZE) -> Network:
    """A new network of the named architecture with its default configuration.

    Args:
        architecture: a key of `ARCHITECTURES`.
        spec: inputs and targets.
        hidden_size: width of the recurrent state, where the architecture has one.

    Raises:
        ModelError: there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}"
        )
    entry = ARCHITECTURES[architecture]
    network = _load(entry.network)
    if entry.config is None:
        made: Network = network(spec)
    else:
        made = network(spec, _load(entry.config)(hidden_size=hidden_size))
    return made


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
