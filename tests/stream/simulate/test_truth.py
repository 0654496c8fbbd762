import numpy as np
import pytest

from stream.simulate import Plan, SimulateError, Truth, simulate
from stream.simulate.plan import DAY_MS
from stream.simulate.truth_file import load_truth, save_truth

START = 1_704_067_200_000


def two_users():
    return Truth(
        plan=Plan(users=2, events=10, start=START),
        purchase_per_day=np.array([0.5, 0.0]),
        leave_per_day=np.array([0.25, 0.1]),
        first=np.array([START + DAY_MS, START]),
        left=np.array([START + 10 * DAY_MS, START + 90 * DAY_MS]),
        activity=np.ones(2),
        bot=np.array([False, True]),
    )


def test_probability_by_numerical_integration():
    truth = two_users()
    step = 1e-4
    s = np.arange(0, 3, step) + step / 2
    # The first purchase falls at s and the user is still there then.
    expected = np.sum(0.5 * np.exp(-0.5 * s) * np.exp(-0.25 * s)) * step
    at = START + 2 * DAY_MS
    assert truth.true_probability(0, at, 3 * DAY_MS) == pytest.approx(expected, abs=1e-6)


def test_probability_before_arrival_after_leaving_and_of_bots():
    truth = two_users()
    assert truth.true_probability(0, START, DAY_MS) == 0
    assert truth.true_probability(0, START, 3 * DAY_MS) == pytest.approx(
        truth.true_probability(0, START + DAY_MS, 2 * DAY_MS)
    )
    assert truth.true_probability(0, START + 10 * DAY_MS, DAY_MS) == 0
    several = truth.true_probability(np.array([0, 1]), START + 2 * DAY_MS, DAY_MS)
    assert several[0] > 0
    assert several[1] == 0


def test_round_trip(tmp_path):
    truth = simulate(Plan(users=30, events=100, start=START, bot_share=0.2)).truth
    save_truth(truth, tmp_path / "truth.parquet")
    read = load_truth(tmp_path / "truth.parquet")
    assert read.plan == truth.plan
    for name in ("purchase_per_day", "leave_per_day", "first", "left", "activity", "bot"):
        assert np.array_equal(getattr(read, name), getattr(truth, name))


def test_no_truth_file(tmp_path):
    path = tmp_path / "truth.parquet"
    for _ in range(2):
        with pytest.raises(SimulateError, match=r"truth\.parquet is no truth file"):
            load_truth(path)
        path.write_bytes(b"PAR1")
    with pytest.raises(SimulateError, match="cannot write the truth"):
        save_truth(two_users(), tmp_path / "none" / "truth.parquet")
