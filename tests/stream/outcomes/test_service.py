"""The service on a real broker: figures, verdicts, a canary rolled back, and a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from schemas.codec import decode, encode
from schemas.events import MAX_TIME, CartAdd, Favourite, Purchase, View
from schemas.monitoring import AlertOutcome, ModelMetrics
from stream.config.secure_settings import PrivacySettings
from stream.kafka.announce import read_announced
from stream.kafka.topics import create_topics
from stream.operations.status_report import open_status
from stream.outcomes.service import OutcomeService
from tests.stream.kafka.test_topics import settings_for
from tests.stream.kafka_tools import produce, read_all
from tests.stream.outcomes.tools import DAY, at, prediction, raised, ranking
from tests.stream.worker.test_reload import published, tell

if TYPE_CHECKING:
    from stream.config.settings import Settings

pytestmark = pytest.mark.kafka

USERS = 120


async def shop(servers: str, error: float) -> Settings:
    """Predictions of champion and canary, on as many users each; the canary errs so often."""
    settings = settings_for(servers, partitions=1)
    settings = settings.model_copy(
        update={
            "outcomes": settings.outcomes.model_copy(
                update={"rollback_users": 50, "min_matured": 50}
            ),
            "train": settings.train.model_copy(update={"churn_horizon_ms": 28 * DAY}),
        }
    )
    await create_topics(settings)
    topics = settings.topics
    await tell(
        settings,
        ("old", published("old")),
        ("new", published("new", rollout="canary", canary_share=0.5)),
    )
    rng = np.random.default_rng(1)
    events, said = [], []
    for day in range(0, 64, 8):
        for n in range(2 * USERS):
            user, version = f"u{n}", "new" if n < USERS else "old"
            p = 0.1 + 0.8 * (n % 10) / 10
            wrong = version == "new" and rng.random() < error
            offset = len(said)
            found = prediction(user, day, 1 - p if wrong else p, version=version, offset=offset)
            said.append((user.encode(), encode(found)))
            events.append(_event(View, f"v{offset}", user, day))
            if rng.random() < p:
                events.append(_event(Purchase, f"p{offset}", user, day + 0.5))
    events.sort(key=lambda found: found[2])
    for days in (100.0, 101.0):
        events.append(_event(View, f"clock-{days}", "clock", days))
        said.append((b"clock", encode(prediction("clock", days, offset=int(days) + 10_000))))
    alerts = [
        msgspec.structs.replace(raised(f"u{n}", 60), arm="holdout" if n % 2 else "treatment")
        for n in range(20)
    ]
    await produce(servers, topics.events, [(key, value) for key, value, _ in events])
    await produce(servers, topics.propensity, said)
    await produce(servers, topics.churn, [(a.user_id.encode(), encode(a)) for a in alerts])
    return settings


def _event(kind: type, event_id: str, user: str, days: float) -> tuple[bytes, bytes, int]:
    event = kind(event_id=event_id, user_id=user, event_time=at(days))
    return user.encode(), encode(event), event.event_time


async def test_what_matured_is_told_once_and_a_bad_canary_is_rolled_back(kafka) -> None:
    settings = await shop(kafka.bootstrap_servers, error=0.6)
    topics = settings.topics

    await OutcomeService(settings).run(once=True)

    records = await read_all(kafka.bootstrap_servers, topics.metrics)
    metrics = {r.key.decode(): decode(ModelMetrics, r.value) for r in records}
    good, bad = (metrics[version].targets["purchase"] for version in ("old", "new"))
    assert good.matured == 8 * USERS
    assert good.auc > 0.7 > bad.auc
    assert good.log_loss < good.base_log_loss < bad.log_loss
    assert any("no better than its base rate" in alarm for alarm in metrics["new"].alarms)
    announced = await read_announced(settings)
    assert (announced.role("old"), announced.role("new")) == ("champion", "-")
    models = await read_all(kafka.bootstrap_servers, topics.models)
    ((name, reason),) = models[-1].headers
    assert (name, models[-1].value) == ("reason", None)
    assert b"is worse than the champion's: log-loss" in reason

    told = [
        decode(AlertOutcome, r.value)
        for r in await read_all(kafka.bootstrap_servers, topics.outcomes)
    ]
    first = [o for o in told if o.outcome == "unknown"]
    final = {o.alert_id: o for o in told}
    assert (len(told), len(first), len(final)) == (40, 20, 20)
    assert {(o.outcome, o.arm) for o in final.values()} <= {
        ("true", "treatment"),
        ("true", "holdout"),
        ("saved", "treatment"),
        ("false", "holdout"),
    }

    # A restart reads it all again, comes to the same figures, and repeats no verdict.
    again = OutcomeService(settings)
    await again.run(once=True)
    ours = {found.model_version: found.targets for found in again.metrics}
    assert ours == {version: found.targets for version, found in metrics.items()}
    assert len(await read_all(kafka.bootstrap_servers, topics.outcomes)) == len(told)
    assert len(await read_all(kafka.bootstrap_servers, topics.models)) == len(models)


async def test_carts_and_favourites_are_judged_where_the_settings_name_them(kafka) -> None:
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    train = {"cart_horizon_ms": DAY, "favourite_horizon_ms": None}
    settings = settings.model_copy(update={"train": settings.train.model_copy(update=train)})
    await create_topics(settings)
    said = [
        (b"u", encode(prediction(f"u{n}", n / 10, offset=n, cart=0.3, favourite=0.4)))
        for n in range(40)
    ]
    said.append((b"clock", encode(prediction("clock", 100, offset=99))))
    events = [_event(CartAdd, f"c{n}", f"u{n}", n / 10 + 0.5) for n in range(0, 40, 4)]
    events += [_event(Favourite, "f", "u1", 0.5), _event(View, "clock", "clock", 100)]
    await produce(kafka.bootstrap_servers, settings.topics.propensity, said)
    pairs = [(key, value) for key, value, _ in sorted(events, key=lambda found: found[2])]
    await produce(kafka.bootstrap_servers, settings.topics.events, pairs)

    await OutcomeService(settings).run(once=True)

    async with open_status(settings) as reader:
        (figures,) = (await reader.read()).models
    assert set(figures.targets) == {"purchase", "cart"}
    cart = figures.targets["cart"]
    assert (cart.matured, cart.base_rate) == (40, 0.25)
    assert cart.ece == pytest.approx(0.05)


async def test_rankings_are_judged_by_events_of_pseudonyms_and_not_by_refused_ones(kafka) -> None:
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    key = PrivacySettings(pseudonym_key="k" * 64)
    settings = settings.model_copy(update={"privacy": key})
    await create_topics(settings)
    ann = settings.privacy.stored_id("ann")
    assert ann != "ann"
    said = [
        (ann.encode(), encode(ranking(ann, at(0), categories="ba", items="x"))),
        (b"bot", encode(msgspec.structs.replace(ranking("bot", at(0), "a"), automated=True))),
    ]
    shadowed = [(ann.encode(), encode(ranking(ann, at(0), categories="bc", version="m2")))]
    seen = [
        View(event_id="1", user_id="ann", event_time=at(0), category_id="a", item_id="x"),
        # A producer without a clock: workers refuse it, and nobody's clock moves.
        View(event_id="2", user_id="ann", event_time=MAX_TIME, category_id="c", item_id="y"),
        View(event_id="3", user_id="ann", event_time=at(1), category_id="a", item_id="x"),
        View(event_id="4", user_id="bob", event_time=at(2)),
    ]
    events = [(event.user_id.encode(), encode(event)) for event in seen]
    await produce(kafka.bootstrap_servers, settings.topics.propensity, said)
    await produce(kafka.bootstrap_servers, settings.topics.shadow, shadowed)
    await produce(kafka.bootstrap_servers, settings.topics.events, events)

    await OutcomeService(settings).run(once=True)

    records = await read_all(kafka.bootstrap_servers, settings.topics.metrics)
    metrics = {r.key.decode(): decode(ModelMetrics, r.value).rankings for r in records}
    assert set(metrics) == {"m1", "m2"}
    category, item = metrics["m1"]["category"], metrics["m1"]["item"]
    assert (category.judged, category.hit_rate, category.last_hit_rate) == (1, 1, 1)
    assert category.ndcg == pytest.approx(1 / np.log2(3))
    assert (item.judged, item.ndcg) == (1, 1)
    assert (metrics["m2"]["category"].hit_rate, set(metrics["m2"])) == (0, {"category"})


async def test_a_good_canary_stays(kafka) -> None:
    settings = await shop(kafka.bootstrap_servers, error=0.0)
    await OutcomeService(settings).run(once=True)
    assert (await read_announced(settings)).role("new") == "canary 50.0%"
