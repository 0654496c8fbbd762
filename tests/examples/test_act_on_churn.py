"""A marketing webhook gets each alert once, whatever fails in between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.outputs import AlertReason, AlertState, ChurnAlert, Source, alert_id
from tests.examples.support import TIMEOUT_SECONDS, new_topic, put, run, start, webhook

pytestmark = pytest.mark.kafka


def alert(user: str, state: AlertState, at: int, raised_at: int, **changes: Any) -> ChurnAlert:
    made = ChurnAlert(
        alert_id=alert_id(user, state, at),
        episode=alert_id(user, "raised", raised_at),
        user_id=user,
        state=state,
        risk=0.8,
        silence_ms=9,
        expected_gap_ms=3,
        reasons=[AlertReason("silence", 0.4)],
        value_at_risk=12.5,
        arm="treatment",
        cause="silence",
        model_version="gru-1",
        event_time=at,
        source=Source("shop.events", 0, at),
    )
    return msgspec.structs.replace(made, **changes)


def arguments(kafka: Any, topic: str, url: str, ledger: Any) -> list[str]:
    return [
        "--bootstrap-servers",
        kafka.bootstrap_servers,
        "--topic",
        topic,
        "--group",
        topic,
        "--webhook",
        url,
        "--ledger",
        str(ledger),
        "--pause",
        "0.01",
        "--idle-seconds",
        "60",
    ]


async def test_each_alert_is_acted_on_once(kafka, tmp_path):
    topic = await new_topic(kafka.bootstrap_servers)
    raised = alert("zoë\n1", "raised", 10, 10)
    never_sent = alert("ghost", "raised", 10, 10)
    await put(kafka.bootstrap_servers, topic, [never_sent], commit=False)
    alerts = [
        raised,
        raised,
        alert("bob", "raised", 11, 11, arm="holdout"),
        alert("bob", "resolved", 12, 11, arm="holdout"),
        alert("zoë\n1", "escalated", 20, 10),
        alert("zoë\n1", "resolved", 30, 10, risk=0.1),
        alert("cy", "resolved", 31, 5),
        alert("eve", "raised", 40, 40),
        alert("eve", "retracted", 41, 40),
        alert("old", "raised", 50, 50, replayed=True, cold_start=True),
        alert("new", "raised", 51, 51, replayed=False, cold_start=True),
    ]
    await put(kafka.bootstrap_servers, topic, alerts)
    statuses = [503, 429, 200]
    with webhook(lambda number: statuses[number] if number < len(statuses) else 204) as shop:
        options = arguments(kafka, topic, shop.url, tmp_path / "ledger.sqlite3")
        first = run("act_on_churn.py", *options, "--limit", str(len(alerts)))
        again = run("act_on_churn.py", *options, "--idle-seconds", "6")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert again.stdout == ""
    outcomes = [line.rpartition(": ")[2] for line in first.stdout.splitlines() if ": " in line]
    assert outcomes == [
        "delivered",
        "repeat",
        "holdout",
        "holdout",
        "delivered",
        "delivered",
        "nothing to cancel",
        "delivered",
        "delivered",
        "not of now",
        "no trained model",
    ]
    keys = [key for key, _ in shop.posts]
    assert keys == [
        *["zo%C3%AB%0A1:10:raised"] * 3,
        "zo%C3%AB%0A1:20:escalated",
        "zo%C3%AB%0A1:30:resolved",
        "eve:40:raised",
        "eve:41:retracted",
    ]
    actions = [body["action"] for _, body in shop.posts[2:]]
    assert actions == [
        "start_win_back",
        "escalate_win_back",
        "cancel_win_back",
        "start_win_back",
        "cancel_win_back",
    ]
    assert shop.posts[0][1]["user_id"] == "zoë\n1"
    assert shop.posts[0][1]["reasons"] == [{"feature": "silence", "change": 0.4}]


async def test_what_the_webhook_refuses_does_not_block_the_rest(kafka, tmp_path):
    topic = await new_topic(kafka.bootstrap_servers)
    alerts = [
        alert("ann", "raised", 1, 1),
        alert("ann", "resolved", 2, 1),
        alert("ben", "raised", 3, 3),
    ]
    await put(kafka.bootstrap_servers, topic, alerts)
    with webhook(lambda number: 400 if number == 0 else 200) as shop:
        options = arguments(kafka, topic, shop.url, tmp_path / "ledger.sqlite3")
        done = run("act_on_churn.py", *options, "--limit", "3")
    assert done.returncode == 0, done.stderr
    assert [body["user_id"] for _, body in shop.posts] == ["ann", "ben"]
    assert "ann raised: refused" in done.stdout
    assert "ann resolved: nothing to cancel" in done.stdout


async def test_a_webhook_that_stays_down_loses_nothing(kafka, tmp_path):
    topic = await new_topic(kafka.bootstrap_servers)
    await put(kafka.bootstrap_servers, topic, [alert("ann", "raised", 1, 1)])
    ledger = tmp_path / "ledger.sqlite3"
    with webhook(lambda _: 500) as down:
        options = arguments(kafka, topic, down.url, ledger)
        failed = run("act_on_churn.py", *options, "--attempts", "3")
    assert failed.returncode == 1
    assert len(down.posts) == 3
    assert failed.stderr.splitlines()[-1].endswith("restart when it is up")
    with webhook(lambda _: 200) as up:
        options = arguments(kafka, topic, up.url, ledger)
        done = run("act_on_churn.py", *options, "--limit", "1")
    assert done.returncode == 0, done.stderr
    assert [key for key, _ in up.posts] == ["ann:1:raised"]


@pytest.mark.full
async def test_a_crash_before_the_answer_posts_again_with_the_same_key(kafka, tmp_path):
    topic = await new_topic(kafka.bootstrap_servers)
    await put(kafka.bootstrap_servers, topic, [alert("ann", "raised", 1, 1)])
    with webhook(lambda _: 200, hold=True) as shop:
        options = arguments(kafka, topic, shop.url, tmp_path / "ledger.sqlite3")
        with start("act_on_churn.py", *options) as process:
            assert shop.arrived.wait(TIMEOUT_SECONDS)
            process.kill()
        shop.release.set()
        done = run("act_on_churn.py", *options, "--limit", "1")
    assert done.returncode == 0, done.stderr
    assert [key for key, _ in shop.posts] == ["ann:1:raised"] * 2
