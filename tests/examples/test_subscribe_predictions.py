"""A subscriber sees committed predictions, each once, and none of an aborted transaction."""

from __future__ import annotations

import pytest

from schemas.outputs import Prediction, Source, TargetScore, prediction_id
from tests.examples.support import new_topic, put, run

pytestmark = pytest.mark.kafka


def prediction(user: str, probability: float, offset: int) -> Prediction:
    return Prediction(
        prediction_id=prediction_id("gru-1", "shop.events", 0, offset),
        user_id=user,
        targets={
            "purchase": TargetScore(probability, 86_400_000),
            "churn": TargetScore(1 - probability, 86_400_000),
        },
        model_version="gru-1",
        feature_version="1",
        state_time=1,
        event_time=1,
        source=Source("shop.events", 0, offset),
    )


async def test_committed_predictions_above_the_threshold_are_shown(kafka):
    topic = await new_topic(kafka.bootstrap_servers)
    await put(kafka.bootstrap_servers, topic, [prediction("ghost", 0.9, 0)], commit=False)
    await put(
        kafka.bootstrap_servers,
        topic,
        [prediction("ann", 0.75, 1), prediction("ben", 0.25, 2), prediction("cy", 0.5, 3)],
    )
    options = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--group", topic]
    done = run("subscribe_predictions.py", *options, "--min-purchase", "0.5", "--idle-seconds", "6")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ann  churn 25.0%  purchase 75.0%  (gru-1)",
        "cy  churn 50.0%  purchase 50.0%  (gru-1)",
    ]


async def test_the_limit_ends_the_run(kafka):
    topic = await new_topic(kafka.bootstrap_servers)
    await put(
        kafka.bootstrap_servers, topic, [prediction("ann", 0.7, 1), prediction("ben", 0.2, 2)]
    )
    options = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--group", topic]
    done = run("subscribe_predictions.py", *options, "--limit", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ann  churn 30.0%  purchase 70.0%  (gru-1)"]
