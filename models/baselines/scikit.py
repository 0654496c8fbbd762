"""scikit-learn, which only evaluations need and which is therefore an extra."""

from __future__ import annotations

import importlib
from typing import Any

from schemas.extras import need


def scikit(module: str) -> Any:
    """Import one of scikit-learn's modules.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    need("evaluate", "this baseline")
    return importlib.import_module(f"sklearn.{module}")
