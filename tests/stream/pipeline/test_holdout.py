"""Arms of alerts: by salt, period and user, and kept to the end of an episode."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.outputs import ChurnAlert
from stream.config.durations import DAY_MS
from stream.config.settings import Settings
from stream.pipeline.holdout import Holdout
from stream.testing import PipelineDriver
from tests.logs import START, TARGETS
from tests.stream.pipeline.histories import ALERTING, purchases, view

USERS = [f"user-{n}" for n in range(4000)]


def held_out(share: float = 0.25, salt: str = "", period: int = 90, at: int = 0) -> set[str]:
    holdout = Holdout(share, salt, period)
    return {user for user in USERS if holdout.assign(user, at) == "holdout"}


def test_share_of_users_held_out_is_the_setting() -> None:
    assert abs(len(held_out()) / len(USERS) - 0.25) < 0.02
    assert held_out(share=0.0) == set()
    assert held_out(share=1.0) == set(USERS)


def test_users_keep_their_arm_within_a_period() -> None:
    assert held_out(at=90) == held_out(at=179)


def test_each_period_and_each_salt_draws_independently() -> None:
    first = held_out()
    for other in (held_out(at=90), held_out(salt="spring")):
        assert abs(len(first & other) / len(USERS) - 0.25**2) < 0.02


def test_period_0_never_draws_again() -> None:
    assert held_out(period=0, at=0) == held_out(period=0, at=10**12)


def test_epoch_names_salt_and_period() -> None:
    assert Holdout(0.1, "spring", 90).epoch(181) == "spring:2"
    assert Holdout(0.1, "", 0).epoch(181) == ":0"


def alerts_across(changes: dict[str, object]) -> list[ChurnAlert]:
    """Alerts are raised, settings change, then purchases resolve them in a later period."""
    begin = {**ALERTING, "holdout_share": 0.5, "holdout_period_ms": "1d"}

    def settings(churn: dict[str, object]) -> Settings:
        return Settings(churn=churn, worker={"clock": "event"})

    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings(begin))
    driver.pipe(purchases(40, START, range(0, 70, 7)))
    driver.pipe_raw(view(f"clock-{n}", START + 90 * DAY_MS) for n in range(9))
    driver.settings = settings({**begin, **changes})
    driver.restart()
    driver.pipe(purchases(40, START, [91]))
    return driver.alerts()


@pytest.mark.slow
def test_episode_keeps_its_arm_across_periods_and_settings() -> None:
    changes: dict[str, object]
    for changes in ({}, {"holdout_salt": "autumn"}, {"holdout_share": 0.0}):
        alerts = alerts_across(changes)
        raised = {a.episode: a.arm for a in alerts if a.state == "raised"}
        later = [a for a in alerts if a.state != "raised"]
        assert {a.state for a in later} >= {"resolved"}
        assert set(raised.values()) == {"holdout", "treatment"}
        assert all(a.arm == raised[a.episode] for a in later)


def test_raised_alerts_alone_name_the_epoch() -> None:
    for alert in alerts_across({}):
        raised = alert.state == "raised"
        assert alert.holdout_epoch == (f":{alert.event_time // DAY_MS}" if raised else UNSET)
        assert (b"holdout_epoch" in encode(alert)) == raised
