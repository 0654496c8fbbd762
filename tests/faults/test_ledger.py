"""The ledger itself: what is counted, and that a failure is not counted as survived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger, Scale


def test_attempts_of_a_row_add_up_and_the_slowest_recovery_is_kept(tmp_path: Path) -> None:
    ledger = Ledger()
    row = ledger.row(3, "a fault")
    with row.attempt(times=2) as attempt:
        attempt.recovered_in(2.5)
    with row.attempt() as attempt:
        attempt.recovered_in(1.5)
    ledger.row(4, "never tried")
    ledger.write(tmp_path / "faults.json")
    assert json.loads((tmp_path / "faults.json").read_text()) == [
        {
            "row": 3,
            "name": "a fault",
            "tried": 3,
            "survived": 3,
            "lost": 0,
            "duplicated": 0,
            "recover_seconds": 2.5,
        }
    ]


def test_what_was_measured_stands_under_its_row() -> None:
    ledger = Ledger()
    with ledger.row(3, "a fault").attempt() as attempt:
        attempt.note("7 of 9 beans")
    (row,) = ledger.as_list()
    assert row["figures"] == ["7 of 9 beans"]
    assert ledger.table()[2].strip() == "7 of 9 beans"


def test_rows_of_several_processes_add_up() -> None:
    ledgers = [Ledger(), Ledger(), Ledger()]
    for number, ledger in enumerate(ledgers[1:], 1):
        with ledger.row(3, "a fault").attempt(times=number) as attempt:
            attempt.note(f"of {number}")
            if number == 2:
                attempt.recovered_in(1.5)
    with ledgers[2].row(1, "another").attempt():
        pass
    for ledger in ledgers[1:]:
        ledgers[0].add(ledger.carried())
    one, three = ledgers[0].as_list()
    assert (one["row"], one["tried"], one["survived"]) == (1, 1, 1)
    assert (three["tried"], three["survived"], three["recover_seconds"]) == (3, 3, 1.5)
    assert three["figures"] == ["of 1", "of 2"]


@pytest.mark.parametrize("lost", [0, 2])
def test_what_fails_or_loses_is_tried_and_not_survived(lost: int) -> None:
    ledger = Ledger()

    def attempt() -> None:
        with ledger.row(1, "a fault").attempt() as attempt:
            attempt.lost = lost
            assert lost, "something else went wrong"

    with pytest.raises(AssertionError):
        attempt()
    (line,) = ledger.as_list()
    assert (line["tried"], line["survived"], line["lost"]) == (1, 0, lost)
    assert line["recover_seconds"] is None
    assert "a fault" in ledger.table()[1]


def test_the_seed_and_the_name_determine_the_randomness() -> None:
    one, other = Scale(full=False, seed=1), Scale(full=True, seed=2)
    assert one.rng("x").random() == one.rng("x").random()
    assert len({one.rng("x").random(), one.rng("y").random(), other.rng("x").random()}) == 3
    assert (one(1, 20), other(1, 20)) == (1, 20)
