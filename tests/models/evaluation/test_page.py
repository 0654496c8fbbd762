"""The report: a page, a picture per task, and small files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import EvaluationError
from models.evaluation.page import BY_HAND, table, verdict, write_report
from models.evaluation.pictures import draw
from models.evaluation.results import ModelResult, Panel, Slice, TaskResult

pytestmark = pytest.mark.slow


def binary() -> TaskResult:
    rng = np.random.default_rng(0)
    told = rng.random(500)
    labels = (rng.random(500) < told).astype(np.float64)
    figures = {"auroc": 0.8, "pr_auc": 0.7, "log_loss": 0.5, "ece": 0.02}
    worse = {**figures, "log_loss": 0.6}
    return TaskResult(
        task="a_task",
        title="A task",
        criterion="log_loss",
        higher_is_better=False,
        models={
            "gru": ModelResult((figures, {**figures, "auroc": 0.9}), "network"),
            "recency": ModelResult((worse, worse), "baseline"),
        },
        notes=("A note.",),
        labels=labels,
        probabilities={"gru": told, "recency": rng.random(500)},
        curves={"gru": [(0.6, 0.61), (0.55, 0.58)]},
        slices=(Slice("1 order", 100, figures),),
    )


def ranking() -> TaskResult:
    models = {
        name: ModelResult(({"hr_10": hit, "ndcg_10": hit / 2},), "baseline")
        for name, hit in (("recent", 0.6), ("popularity", 0.2))
    }
    return TaskResult("next", "Next", "ndcg_10", True, models)


def test_the_page_names_the_default_and_shows_its_pictures(tmp_path: Path) -> None:
    page = write_report([binary(), ranking()], tmp_path / "evaluation", "intentstream evaluate all")
    text = page.read_text()
    assert page == tmp_path / "evaluation.md"
    assert "| gru (default) | network | 0.8500 (0.1000) | 0.7000 | 0.5000 | 0.0200 |" in text
    assert "| recent (default) | baseline | 0.6000 | 0.3000 |" in text
    assert "- A note." in text
    for task in ("a_task", "next"):
        assert f"(evaluation/{task}.png)" in text
        picture = (tmp_path / "evaluation" / f"{task}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert 2_000 < len(picture) < 100_000


def test_the_page_says_where_a_baseline_wins_and_keeps_what_is_written_by_hand(
    tmp_path: Path,
) -> None:
    told = replace(binary(), where="at every event", against="gru is surely below recency")
    page = tmp_path / "evaluation.md"
    page.write_text(f"# Old\n\n{BY_HAND}\n\n## Read with care\n\nA warning.\n")
    for _ in range(2):
        write_report([told, ranking()], tmp_path / "evaluation", "intentstream evaluate all")
    text = page.read_text()
    assert (
        "| `a_task` | gru, a network | log_loss 0.5000 | gru is surely below recency |\n"
        "| `next` | recent, a baseline | ndcg_10 0.3000 | **a baseline wins** |"
    ) in text
    assert "Predictions at every event." in text
    assert "# Old" not in text
    assert text.count(BY_HAND) == text.count("A warning.") == 1


def test_a_reference_is_shown_and_not_chosen() -> None:
    result = binary()
    best = {"auroc": 1.0, "pr_auc": 1.0, "log_loss": 0.0, "ece": 0.0}
    result.reference["truth"] = ModelResult((best,), "truth")
    assert result.default == "gru"
    assert table(result)[-1][:3] == ["truth", "truth", "1.0000"]


def test_the_page_says_who_wins_against_the_networks_over_sequences() -> None:
    result = binary()
    assert verdict(result) == "gru, a network over sequences, wins."
    loses = replace(result, curves={"recency": [(0.6, 0.61)]})
    assert verdict(loses) == (
        "gru, a network, wins: recency, the best of the networks over sequences, is 0.1000 behind "
        "it in log_loss."
    )
    assert verdict(replace(result, curves={})) == "gru, a network, wins."
    assert verdict(ranking()) == "recent, a baseline, wins."


def test_panels_are_drawn_in_place_of_curves(tmp_path: Path) -> None:
    lines = {"rule": (np.linspace(0, 1, 20), np.linspace(1, 0, 20))}
    one = Panel("recall against precision", "precision", "recall", lines, diagonal=True)
    drawn = []
    for panels in ((one,), (one, one)):
        path = draw(replace(ranking(), panels=panels), tmp_path / str(len(panels)))
        with Image.open(path) as image:
            drawn.append(image.size)
        assert 2_000 < path.stat().st_size < 60_000
    assert drawn[1][0] == 2 * drawn[0][0]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot write"):
        write_report([ranking()], tmp_path / "file" / "evaluation", "x")
