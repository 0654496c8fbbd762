"""`intentstream evaluate`: figures as JSON, a page with pictures, plain errors."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.sources import TAOBAO, TAOBAO_START
from stream.cli import evaluate
from stream.cli.main import main

pytestmark = pytest.mark.slow

DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ninety Taobao users, half of whom buy often."""
    rng = random.Random(0)
    lines = []
    for user in range(90):
        for day in range(9):
            moment = TAOBAO_START // 1000 + day * DAY_S + rng.randrange(DAY_S)
            lines.append(f"{user},{rng.randrange(50)},{rng.randrange(5)},pv,{moment}")
            if rng.random() < (0.6 if user % 2 else 0.1):
                lines.append(f"{user},{rng.randrange(50)},{rng.randrange(5)},buy,{moment}")
    (tmp_path / TAOBAO).write_text("\n".join(lines))
    return tmp_path


def test_figures_and_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = folder / "eval.json", folder / "docs" / "evaluation"
    options = ["--data", str(folder), "--seeds", "1", "--networks", "logistic"]
    task = "taobao_purchase_24h"
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", task, *options, "--json", str(out), "--report", str(report)])
    assert not ended.value.code
    found = json.loads(out.read_text())["tasks"][task]
    assert found["default"] in found["models"]
    assert found["models"]["logistic"]["auroc"] > 0.6
    assert len(found["models"]["logistic"]["seeds"]) == 1
    assert "logistic" in capsys.readouterr().out
    assert (folder / "docs" / "evaluation.md").read_text().startswith("# Evaluation")
    assert (report / f"{task}.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "no task 'nonsense'"),
        (["cdnow_return"], "CDNOW_master.txt is in none of"),
        (["taobao_purchase_24h", "--networks", "mamba"], "unknown architecture 'mamba'"),
    ],
)
def test_errors_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments, "--data", str(folder), "--seeds", "1"])
    assert ended.value.code == 1
    assert told in capsys.readouterr().err


def test_the_simulated_shop_hands_its_truth_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_USERS", 50)
    monkeypatch.setattr(evaluate, "_DAYS", 40)
    shop = evaluate._simulated()
    users = shop.log.users[:100]
    told = shop.probability(users, shop.log.events.time[:100], DAY_S * 1000)
    assert told.shape == (100,)
    assert ((told > 0) & (told < 1)).all()
    # The user's own hazard: the same whichever users are asked about beside them.
    again = shop.probability(users[::-1], shop.log.events.time[:100][::-1], DAY_S * 1000)
    assert (again[::-1] == told).all()


def test_users_leave_the_shop_whose_leavers_are_to_be_found() -> None:
    log = evaluate._leaving()
    assert len(log) == 400_000
    _, last = np.unique(log.users[::-1], return_index=True)
    end = int(log.events.time.max())
    ages = (end - log.events.time[::-1][last]) / (DAY_S * 1000)
    assert 0.2 < (ages > 60).mean() < 0.8
