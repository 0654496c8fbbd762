"""Start and cancel a marketing action from churn alerts, once per alert.

python examples/act_on_churn.py --bootstrap-servers localhost:9092 --webhook http://localhost:8080/

- raised and escalated start an action; resolved and retracted cancel what the episode started.
- Users of the holdout arm are left alone: comparing the arms is what shows whether actions work.
- Nothing is started on alerts of history (replayed) or of before a trained model (cold_start).
- The offset is committed only after the webhook answered and the alert_id is in the local database:
  a crash in between posts again, with the same Idempotency-Key, and a repeat is skipped.
- Connection errors, 429 and 5xx are tried again with growing pauses. When all attempts fail, the
  program ends with status 1 and the alert stays uncommitted; a restart goes on there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import CommitFailedError

ACTIONS = {
    "raised": "start_win_back",
    "escalated": "escalate_win_back",
    "resolved": "cancel_win_back",
    "retracted": "cancel_win_back",
}
CANCELS = frozenset({"resolved", "retracted"})
MAX_PAUSE_SECONDS = 30.0
HTTP_TOO_MANY_REQUESTS = 429
HTTP_SERVER_ERROR = 500


class WebhookDownError(Exception):
    """The webhook did not take an alert after all attempts."""


class Ledger:
    """Which alerts were acted on, in a SQLite file that survives a crash."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; every write is on disk when it returns."""
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS acted"
            " (alert_id TEXT PRIMARY KEY, episode TEXT, outcome TEXT, at REAL)"
        )

    def has(self, alert_id: str) -> bool:
        """Whether this very alert was acted on."""
        return self._any("SELECT 1 FROM acted WHERE alert_id = ?", alert_id)

    def has_started(self, episode: str) -> bool:
        """Whether any alert of the episode was delivered."""
        query = "SELECT 1 FROM acted WHERE episode = ? AND outcome = 'delivered'"
        return self._any(query, episode)

    def add(self, alert_id: str, episode: str, outcome: str) -> None:
        """Remember the alert."""
        self._connection.execute(
            "INSERT INTO acted VALUES (?, ?, ?, ?)", (alert_id, episode, outcome, time.time())
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _any(self, query: str, value: str) -> bool:
        return self._connection.execute(query, (value,)).fetchone() is not None


def post(webhook: str, alert_id: str, body: Mapping[str, Any], timeout: float) -> bool:
    """Post once. True: taken. False: refused for good (4xx). OSError: worth another attempt."""
    # A user id may hold any character, a header may not.
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": urllib.parse.quote(alert_id, safe=":"),
    }
    request = urllib.request.Request(  # noqa: S310 - the operator names the webhook
        webhook, json.dumps(body).encode(), headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310 - as above
            return True
    except urllib.error.HTTPError as error:
        if error.code == HTTP_TOO_MANY_REQUESTS or error.code >= HTTP_SERVER_ERROR:
            raise
        return False


async def deliver(options: argparse.Namespace, alert_id: str, body: Mapping[str, Any]) -> bool:
    """Post with retries; raises WebhookDownError when no attempt succeeds."""
    for attempt in range(options.attempts):
        try:
            return await asyncio.to_thread(post, options.webhook, alert_id, body, options.timeout)
        except OSError as error:
            print(f"attempt {attempt + 1} for {alert_id}: {error}", file=sys.stderr)
            if attempt + 1 < options.attempts:
                pause = min(options.pause * 2**attempt, MAX_PAUSE_SECONDS)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
    raise WebhookDownError(f"{options.webhook} did not take {alert_id}: restart when it is up")


async def act(options: argparse.Namespace, ledger: Ledger, alert: Mapping[str, Any]) -> str:
    """Do what one alert asks for and return what was done."""
    alert_id, state, episode = alert["alert_id"], alert["state"], alert["episode"]
    if alert["arm"] == "holdout":
        return "holdout"
    if state not in CANCELS and (alert.get("replayed") or alert.get("cold_start")):
        return "not of now" if alert.get("replayed") else "no trained model"
    if ledger.has(alert_id):
        return "repeat"
    if state in CANCELS and not ledger.has_started(episode):
        return "nothing to cancel"
    fields = ("alert_id", "episode", "user_id", "state", "risk", "value_at_risk", "reasons")
    body = {"action": ACTIONS[state], **{name: alert[name] for name in fields}}
    outcome = "delivered" if await deliver(options, alert_id, body) else "refused"
    ledger.add(alert_id, episode, outcome)
    return outcome


async def follow(options: argparse.Namespace, ledger: Ledger) -> None:
    """Act on alerts until the limit or the idle time is reached."""
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap_servers,
        group_id=options.group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        handled = 0
        while not options.limit or handled < options.limit:
            try:
                record: ConsumerRecord = await asyncio.wait_for(
                    consumer.getone(), options.idle_seconds
                )
            except TimeoutError:
                return
            alert = json.loads(record.value)
            outcome = await act(options, ledger, alert)
            # After a rebalance the next owner sees the alert again: hence ledger and key.
            with contextlib.suppress(CommitFailedError):
                await consumer.commit()
            print(f"{alert['user_id']} {alert['state']}: {outcome}", flush=True)
            handled += 1
    finally:
        await consumer.stop()


def main() -> int:
    """Parse the command line and follow the alerts; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--webhook", required=True, help="URL that takes the actions by POST")
    parser.add_argument("--topic", default="alerts.churn")
    parser.add_argument("--group", default="example-churn-actions")
    parser.add_argument("--ledger", type=Path, default=Path("churn-actions.sqlite3"))
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds before the 2nd attempt")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds per attempt")
    parser.add_argument("--limit", type=int, help="stop after this many alerts")
    parser.add_argument("--idle-seconds", type=float, help="stop after this long without any")
    options = parser.parse_args()
    ledger = Ledger(options.ledger)
    try:
        asyncio.run(follow(options, ledger))
    except WebhookDownError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
