"""Rolling windows of matured predictions, and which models have one."""

from __future__ import annotations

import pytest

from stream.outcomes.window import PerModel, Window


def test_a_window_rolls_and_shows_its_calibration():
    window = Window(3000)
    assert window.figures() is None
    for number in range(5000):
        window.add(number >= 2000 and number % 4 == 0, 0.25, 0.0, f"user-{number}")
    figures = window.figures()
    assert (figures.total, figures.matured) == (5000, 3000)
    assert figures.base_rate == pytest.approx(0.25)
    assert figures.ece == pytest.approx(0)
    assert figures.log_loss == pytest.approx(figures.base_log_loss)
    (row,) = figures.calibration
    assert (row.low, row.high, row.count) == (0.2, pytest.approx(0.3), 3000)


def test_predictions_at_events_and_at_timers_are_counted_apart_and_by_users():
    window = Window(5000)
    for user in range(400):
        came = user % 2 == 0
        # Those who come have nine events, those who do not one.
        for _ in range(9 if came else 1):
            window.add(came, 0.5, 0.0, f"user-{user}")
        window.add(user % 4 == 0, 0.5, 0.0, f"user-{user}", "timer")
    figures = window.figures()
    event, timer = figures.populations["event"], figures.populations["timer"]
    assert (event.matured, event.users, timer.matured, timer.users) == (2000, 400, 400, 400)
    assert event.base_rate == pytest.approx(0.5)
    assert event.ece == pytest.approx(0)
    assert event.ece_chance > 0
    assert timer.base_rate == pytest.approx(0.25)
    assert timer.ece == pytest.approx(0.25)
    assert timer.ece_chance < timer.ece
    assert timer.base_log_loss < timer.log_loss
    assert figures.ece > 0.2


def test_one_class_has_no_auc():
    window = Window(10)
    window.add(True, 1.0, 0.0, "user-1")
    figures = window.figures()
    assert figures.auc is None
    assert figures.recency_auc is None
    assert figures.calibration[0].low == 0.9


def test_each_model_has_a_window_of_each_thing_and_all_have_one():
    windows = PerModel(lambda: Window(10), 2)
    assert windows.get("m1", "purchase") is None
    for version in (None, "m1", "m2"):
        windows.of(version, "purchase").add(True, 0.5, 0.0, "user-1")
    assert windows.of("m1", "purchase").figures().total == 1
    assert windows.get("m1", "churn") is None
    assert windows.versions("purchase") == ["m2", "m1"], "the one used last stands last"


def test_of_many_models_those_used_last_keep_their_windows():
    windows = PerModel(lambda: Window(10), 2)
    everybody = windows.of(None, "purchase")
    other = windows.of("m1", "churn")
    for version in ("m1", "m2", "m1", "m3"):
        windows.of(version, "purchase")
    assert windows.versions("purchase") == ["m1", "m3"]
    assert windows.get(None, "purchase") is everybody
    assert windows.get("m1", "churn") is other
