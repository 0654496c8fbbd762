"""Inputs that peek raise the alarm; those of the featuriser do not."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.leaks import Columns, check_leaks, inputs_of
from models.errors import DatasetError
from models.history import SessionRules
from models.log.eventlog import OrderedLog, in_order
from tests.models.shop import shop_log

RULES = SessionRules()


@pytest.fixture(scope="module")
def ordered() -> OrderedLog:
    return in_order(shop_log(users=60), None)


def test_the_features_do_not_peek(ordered: OrderedLog) -> None:
    check_leaks(ordered, RULES)


def next_gap(ordered: OrderedLog, rules: SessionRules) -> Columns:
    time, users = ordered.log.events.time, ordered.log.users
    gap = np.append(np.where(users[1:] == users[:-1], np.diff(time), 0), 0)
    return inputs_of(ordered, rules) | {"next_gap": gap}


def scaled(ordered: OrderedLog, rules: SessionRules) -> Columns:
    found = inputs_of(ordered, rules)
    amount = found["log_amount"]
    return found | {"log_amount": amount - amount.mean()}


def popularity(ordered: OrderedLog, rules: SessionRules) -> Columns:
    item = ordered.log.events.item
    return inputs_of(ordered, rules) | {"item_count": np.bincount(item)[item]}


@pytest.mark.parametrize(
    ("inputs", "name"),
    [(next_gap, "next_gap"), (scaled, "log_amount"), (popularity, "item_count")],
)
def test_planted_leaks_are_named(ordered: OrderedLog, inputs: object, name: str) -> None:
    with pytest.raises(DatasetError, match=rf"input '{name}' peeks into the future"):
        check_leaks(ordered, RULES, inputs)  # type: ignore[arg-type]
