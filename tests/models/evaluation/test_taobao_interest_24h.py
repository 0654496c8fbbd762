"""Cart and favourite are asked at the moments at which purchases are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from models.evaluation import taobao_interest_24h, taobao_purchase_24h
from models.evaluation.contest import ContestConfig
from models.evaluation.sources import DAY, TAOBAO, TAOBAO_START
from models.fitting.fit import FitConfig

pytestmark = pytest.mark.slow


def test_each_task_has_labels_of_its_own(tmp_path: Path) -> None:
    """Half of the users fill carts, the others mark favourites; nobody buys."""
    rng = random.Random(0)
    lines = []
    for user in range(120):
        kind = "cart" if user % 2 else "fav"
        for day in range(9):
            moment = (TAOBAO_START + day * DAY) // 1000 + rng.randrange(86_400)
            lines.append(f"{user},{rng.randrange(50)},{rng.randrange(5)},pv,{moment}")
            if rng.random() < 0.6:
                lines.append(f"{user},{rng.randrange(50)},{rng.randrange(5)},{kind},{moment}")
    (tmp_path / TAOBAO).write_text("\n".join(lines))
    # There is no purchase for the process to be fitted on, so one user has two.
    config = ContestConfig(seeds=(0,), networks=("logistic",), fit=FitConfig(logistic_steps=40))
    with (tmp_path / TAOBAO).open("a") as file:
        for day in (1, 3):
            file.write(f"\n1,1,1,buy,{(TAOBAO_START + day * DAY) // 1000 + 5}")
    cart, favourite = taobao_interest_24h.evaluate((tmp_path,), config, lambda _: None)
    assert [cart.task, favourite.task] == ["taobao_cart_24h", "taobao_favourite_24h"]
    for result in (cart, favourite):
        assert len(result.labels) == 240
        assert 0.2 < result.labels.mean() < 0.4
        assert result.models["logistic"].mean("auroc") > 0.7
    assert not (cart.labels * favourite.labels).any()


def test_the_cuts_are_those_of_purchases() -> None:
    bought = taobao_purchase_24h.protocol()
    for _, target in taobao_interest_24h.TARGETS.values():
        at = taobao_purchase_24h.protocol(target)
        assert (at.train, at.test) == (bought.train, bought.test)
        assert at.target.horizon_ms == bought.target.horizon_ms == DAY
