"""The architectures: one file each, one TorchScript interface (`base.Network`)."""

from __future__ import annotations

from collections.abc import Callable

from models.errors import ModelError
from models.networks.base import Network, NetworkSpec
from models.networks.blend import Blend
from models.networks.gru import Gru
from models.networks.logistic import Logistic
from models.networks.lru import Lru, LruConfig
from models.networks.lstm import Lstm
from models.networks.rhythm import Rhythm
from models.networks.sequence import SequenceConfig
from models.networks.transformer import Transformer, TransformerConfig

HIDDEN_SIZE = SequenceConfig.hidden_size

ARCHITECTURES: dict[str, Callable[[NetworkSpec, int], Network]] = {
    "blend": lambda spec, _: Blend(spec),
    "gru": lambda spec, hidden_size: Gru(spec, SequenceConfig(hidden_size=hidden_size)),
    "logistic": lambda spec, _: Logistic(spec),
    "lru": lambda spec, hidden_size: Lru(spec, LruConfig(hidden_size=hidden_size)),
    "lstm": lambda spec, hidden_size: Lstm(spec, SequenceConfig(hidden_size=hidden_size)),
    "rhythm": lambda spec, _: Rhythm(spec),
    "transformer": lambda spec, hidden_size: Transformer(
        spec, TransformerConfig(hidden_size=hidden_size)
    ),
}


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
    return ARCHITECTURES[architecture](spec, hidden_size)
