"""The service on a real broker: figures, verdicts, a canary rolled back, and a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from schemas.codec import decode, encode
from schemas.control import EraseUser
from schemas.events import MAX_TIME, CartAdd, Favourite, Purchase, View
from schemas.monitoring import AlertOutcome, ModelMetrics
from schemas.outputs import Source
from stream.config.secure_settings import PrivacySettings
from stream.kafka.announce import read_announced
from stream.kafka.topics import create_topics
from stream.operations.status_report import open_status
from stream.outcomes.service import OutcomeService
from tests.patience import PATIENCE_S
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


async def _ask_to_erase(settings: Settings, user: str, name: str = "") -> None:
    request = EraseUser(request_id=name or user, user_id=user, requested_at=1)
    await produce(
        settings.kafka.bootstrap_servers,
        settings.topics.erase,
        [(user.encode(), encode(request))],
    )


def _life(user: str, days: float, offset: int) -> tuple[list, list, list]:
    """A purchase, what was predicted then, and an alert ten days later."""
    event = _event(Purchase, f"{user}-{days}", user, days)
    said = prediction(user, days, offset=offset)
    alert = raised(user, days + 10)
    alert = msgspec.structs.replace(alert, source=Source("events", 0, offset))
    return [event[:2]], [(event[0], encode(said))], [(event[0], encode(alert))]


async def _live(settings: Settings, lives: list[tuple[list, list, list]]) -> None:
    topics = settings.topics
    for place, topic in enumerate((topics.events, topics.propensity, topics.churn)):
        pairs = [pair for life in lives for pair in life[place]]
        await produce(settings.kafka.bootstrap_servers, topic, pairs)


async def _verdicts(settings: Settings) -> list[tuple[str, str, int]]:
    servers = settings.kafka.bootstrap_servers
    records = await read_all(servers, settings.topics.outcomes)
    told = [decode(AlertOutcome, record.value) for record in records]
    return [(each.user_id, each.outcome, each.raised_at) for each in told]


async def _until_told(settings: Settings, verdict: tuple[str, str, int]) -> None:
    while verdict not in await _verdicts(settings):  # noqa: ASYNC110  # another process's topic
        await asyncio.sleep(0.05)


async def test_erased_users_have_no_verdicts_but_for_a_new_life(kafka) -> None:
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    await create_topics(settings)
    await _live(settings, [_life("ann", 0, 0), _life("bob", 0, 1)])
    await _ask_to_erase(settings, "ann")
    await _live(settings, [_life("ann", 20, 2)])
    clock = _event(View, "clock", "clock", 200)
    last = clock[0], encode(prediction("clock", 200, offset=3))
    await _live(settings, [([clock[:2]], [last], [])])

    service = OutcomeService(settings)
    await service.run(once=True)

    # Ann came back once, so a churn of hers cannot be told yet; bob's alert is of before.
    assert await _verdicts(settings) == [
        ("bob", "unknown", at(10)),
        ("ann", "unknown", at(30)),
        ("bob", "true", at(10)),
        ("ann", "true", at(30)),
    ]
    assert service.joiner.alerts().raised == 2
    assert service.metrics[0].targets["purchase"].matured == 2


async def test_a_verdict_that_matures_after_the_request_is_not_told(kafka) -> None:
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    fast = settings.outcomes.model_copy(update={"publish_ms": 100})
    settings = settings.model_copy(update={"outcomes": fast})
    await create_topics(settings)
    await _live(settings, [_life("ann", 0, 0), _life("bob", 0, 1)])
    service, stop = OutcomeService(settings), asyncio.Event()
    running = asyncio.create_task(service.run(stop=stop))
    async with asyncio.timeout(PATIENCE_S):
        await _until_told(settings, ("bob", "unknown", at(10)))
        await _ask_to_erase(settings, "ann")
        clock = _event(View, "clock", "clock", 200)
        last = clock[0], encode(prediction("clock", 200, offset=3))
        await _live(settings, [([clock[:2]], [last], [])])
        await _until_told(settings, ("bob", "true", at(10)))
        stop.set()
        await running
    told = await _verdicts(settings)
    assert [each for each in told if each[0] == "ann"] == [("ann", "unknown", at(10))]
    assert service.joiner.alerts().raised == 1
    assert service.joiner.pending == 2  # those of the clock


async def test_two_runs_over_one_log_find_the_same_changes(kafka) -> None:
    settings = settings_for(kafka.bootstrap_servers, partitions=3)
    chosen = settings.outcomes.model_copy(update={"min_matured": 50})
    settings = settings.model_copy(update={"outcomes": chosen})
    await create_topics(settings)
    rng, topics = np.random.default_rng(3), settings.topics
    for partition in range(3):
        events, said = [], []
        for n in range(1_500):
            user, day = f"u{partition}-{n}", n / 20
            shifted = 0.3 if n > 700 + 100 * partition else 0.0
            p = float(rng.beta(2, 5)) * 0.7 + shifted
            said.append(
                (user.encode(), encode(prediction(user, day, p, offset=n, partition=partition)))
            )
            if rng.random() < p:
                events.append(_event(Purchase, f"p{n}", user, day + 0.5))
        events.append(_event(View, f"clock-{partition}", "clock", 300))
        last = prediction("clock", 300, offset=9_999, partition=partition)
        said.append((b"clock", encode(last)))
        events.sort(key=lambda found: found[2])
        pairs = [(key, value) for key, value, _ in events]
        await produce(kafka.bootstrap_servers, topics.events, pairs, partition)
        await produce(kafka.bootstrap_servers, topics.propensity, said, partition)

    found = []
    for _ in range(3):
        service = OutcomeService(settings)
        await service.run(once=True)
        found.append([msgspec.structs.replace(each, updated_at=1) for each in service.metrics])

    assert found[0][0].changes
    assert found[0] == found[1] == found[2]
