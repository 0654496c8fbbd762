"""`intentstream bench` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.stream.cli.test_models import Cli, cli, folder

__all__ = ["cli", "folder"]

QUICK = ("bench", "scorer", "--device", "cpu", "--seconds", 0)


@pytest.mark.slow
def test_figures_of_an_untrained_gru_as_json(cli: Cli) -> None:
    threads = torch.get_num_threads()
    said, _ = cli(*QUICK, "--batch", 1, "--batch", 64, "--json")
    found = json.loads(said)
    assert (found["model"], found["hidden_size"]) == ("gru-untrained", 64)
    assert (found["device"], found["threads"]) == ("cpu", 1)
    figures = found["figures"]
    assert [(one["precision"], one["batch"]) for one in figures] == [
        ("float32", 1),
        ("float32", 64),
    ]
    assert all(one["events_per_second"] > 0 and one["milliseconds"] > 0 for one in figures)
    assert torch.get_num_threads() == threads


def test_figures_of_a_published_model_as_a_table(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    said, _ = cli(*QUICK, "v2", "--models-dir", folder, "--batch", 4096)
    assert "v2 on CPU" in said
    assert "events/s" in said
    assert "4,096" in said


@pytest.mark.slow
def test_all_sizes_unless_some_are_chosen(cli: Cli) -> None:
    sizes = [one["batch"] for one in json.loads(cli(*QUICK, "--json")[0])["figures"]]
    assert (sizes[0], sizes[-1], len(sizes)) == (1, 16_384, 8)


def test_what_is_not_there_is_one_line(cli: Cli, folder: Path) -> None:
    where = ("--models-dir", folder)
    assert "no model 'v9'" in cli(*QUICK, "v9", *where, code=1)[1]
    if not torch.cuda.is_available():
        _, refused = cli("bench", "scorer", "--device", "cuda", code=1)
        assert "torch sees no GPU here" in refused


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_a_gpu_is_measured_in_both_precisions(cli: Cli) -> None:
    said, _ = cli(*QUICK, "--device", "cuda", "--batch", 256, "--json")
    figures = json.loads(said)["figures"]
    assert [one["precision"] for one in figures] == ["float32", "half"]
