import pytest

from stream.simulate import Faults, Plan, SimulateError, deliver, simulate
from stream.simulate.faults import POISON_KINDS
from tests.oracle import Ev, UserHistory

GRACE = 600_000


@pytest.fixture(scope="module")
def shop():
    # Half an hour of few users: what comes late meets later events of its user.
    return simulate(Plan(users=40, events=20_000, start=1_704_067_200_000, days=2, seed=2))


def test_without_faults_every_event_is_sent_at_its_time(shop):
    delivery = deliver(shop, Faults())
    assert delivery.time.tolist() == shop.time.tolist()
    assert delivery.event.tolist() == list(range(20_000))
    assert (delivery.duplicates, delivery.late(GRACE), delivery.poisoned()) == (0, 0, {})


def test_numbers_are_exact(shop):
    delivery = deliver(shop, Faults(duplicates=0.1, disorder=0.2, late=0.01, poison=0.05))
    assert len(delivery.time) == 20_000 + delivery.duplicates + 1_000
    assert delivery.duplicates == pytest.approx(2_000, rel=0.1)
    assert sum(delivery.poisoned().values()) == 1_000
    assert set(delivery.poisoned()) == set(POISON_KINDS)
    delays = delivery.time - shop.time[delivery.event]
    assert delays.min() == 0
    assert (delays == 0).mean() > 0.6


def test_a_file_has_no_poisoned_keys(shop):
    delivery = deliver(shop, Faults(poison=0.01), keyed=False)
    assert set(delivery.poisoned()) == set(POISON_KINDS[:-2])


@pytest.mark.slow
def test_counts_are_what_a_serial_judge_finds(shop):
    faults = Faults(duplicates=0.1, disorder=0.2, late=0.02, disorder_ms=200_000)
    delivery = deliver(shop, faults)
    users = {}
    found = {"accepted": 0, "duplicate": 0, "late": 0}
    for event in delivery.event.tolist():
        user = users.setdefault(int(shop.user[event]), UserHistory(grace=GRACE))
        found[user.offer(Ev(int(shop.time[event]), event))] += 1
    assert found["late"] == delivery.late(GRACE) > 100
    assert found["duplicate"] == delivery.duplicates
    assert found["accepted"] == 20_000 - found["late"]


def test_disorder_alone_stays_inside_the_grace(shop):
    assert deliver(shop, Faults(disorder=0.5, duplicates=0.5)).late(GRACE) == 0


@pytest.mark.parametrize("wrong", [{"late": 2}, {"poison": -1}, {"late_ms": 0}])
def test_impossible_faults(wrong):
    with pytest.raises(SimulateError, match=next(iter(wrong))):
        Faults(**wrong)
