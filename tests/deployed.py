"""Programs of deploy/, which is no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

DEPLOY = Path(__file__).parents[1] / "deploy"


def program(path: str) -> ModuleType:
    """The module of a file below deploy/, e.g. "acls/rights.py"."""
    name = "deployed_" + path.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, DEPLOY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
