"""Generated files of the challenge, once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.evaluation.recsys2025.generated import Plan, write


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 150,000 events, half of the clients relevant; nobody may change them."""
    folder = tmp_path_factory.mktemp("recsys2025")
    write(folder, Plan(150_000, relevant_share=0.5, categories=30, skus=300, heaviest=False))
    return folder
