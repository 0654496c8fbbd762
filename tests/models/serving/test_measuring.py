"""The measuring of scorers: what is counted, and that two are under way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.serving.measuring import (
    MIN_ROUNDS,
    WARM_UP_ROUNDS,
    measure,
    micro_batch,
    untrained,
)
from models.serving.scorer import Scorer


class Counting:
    """A model of one unit that counts what is under way."""

    recurrent, hidden_size, history_length, precision = True, 1, 50, "half"

    def __init__(self) -> None:
        self.launched = self.fetched = self.most = 0

    def launch(self, stored: np.ndarray, *_: object) -> Counting:
        self.launched += 1
        self.most = max(self.most, self.launched - self.fetched)
        return self

    def fetch(self) -> None:
        self.fetched += 1


def test_figures_are_of_what_was_done() -> None:
    scorer = Counting()
    ticks = itertools.count()
    found = measure(scorer, 10, 40, lambda: float(next(ticks)))  # type: ignore[arg-type]
    assert scorer.launched == scorer.fetched == found.rounds + WARM_UP_ROUNDS
    assert scorer.most == 2
    assert (found.precision, found.batch) == ("half", 10)
    # The clock goes on by a second whenever it is looked at: once in a round that is timed.
    assert found.milliseconds == 1000
    timed, overlapped = 10, 20
    assert found.rounds == timed + overlapped + 1
    assert found.events_per_second == pytest.approx(
        (overlapped + 1) * 10 / (overlapped + 2), rel=0.1
    )


def test_however_short_the_time_some_rounds_are_made() -> None:
    scorer = Counting()
    assert measure(scorer, 1, 0).rounds == 2 * MIN_ROUNDS + 1  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gru", "transformer", "logistic"])
def test_micro_batches_are_what_a_model_takes(architecture: str) -> None:
    scorer = Scorer.of_script(*untrained(architecture))
    stored, steps, profile = micro_batch(scorer, 5)
    hidden, probabilities = scorer.launch(stored, steps, profile).fetch()
    assert hidden.shape == (5, scorer.hidden_size)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    again = micro_batch(scorer, 5)
    assert np.array_equal(again[1].ids_MC, steps.ids_MC)


@pytest.mark.slow
def test_the_untrained_network_is_the_same_every_time() -> None:
    (script, manifest), (other, same) = untrained(), untrained()
    assert manifest == same
    assert (manifest.hidden_size, manifest.architecture) == (64, "gru")
    batch = micro_batch(Scorer.of_script(script, manifest), 3)
    numbers = [
        Scorer.of_script(bytes_, manifest).launch(*batch).fetch()[1] for bytes_ in (script, other)
    ]
    assert np.array_equal(*numbers)
