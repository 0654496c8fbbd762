"""scikit-learn, which only evaluations need and which is therefore an extra."""

from __future__ import annotations

import importlib
from typing import Any

from models.errors import EvaluationError


def scikit(module: str) -> Any:
    """Import one of scikit-learn's modules.

    Raises:
        EvaluationError: scikit-learn is not installed.
    """
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise EvaluationError(
            "this baseline needs scikit-learn: install the project with its extra `evaluate`"
        ) from error
