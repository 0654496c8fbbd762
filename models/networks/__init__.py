"""The architectures: one file each, one TorchScript interface (`base.Network`)."""

from __future__ import annotations

from collections.abc import Callable

from models.errors import ModelError
from models.networks.base import Network, NetworkSpec
from models.networks.gru import Gru
from models.networks.logistic import Logistic
from models.networks.rhythm import Rhythm

ARCHITECTURES: dict[str, Callable[[NetworkSpec], Network]] = {
    "gru": Gru,
    "logistic": Logistic,
    "rhythm": Rhythm,
}


def build(architecture: str, spec: NetworkSpec) -> Network:
    """A new network of the named architecture with its default configuration.

    Raises:
        ModelError: there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[architecture](spec)
