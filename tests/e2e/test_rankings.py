"""A worker that ranks, and `intentstream outcomes`: the figures are those of the topics."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import log2

import msgspec
import pytest
import xxhash

from models.serving.artifact import script_bytes
from models.serving.rankings import Ranking, files_of
from models.serving.registry import Registry
from models.serving.scorer import make_golden
from schemas.codec import decode_event
from schemas.events import Event, Search
from schemas.monitoring import ModelMetrics
from schemas.outputs import Prediction
from stream.kafka.announce import announce
from tests.e2e.shop import put
from tests.e2e.world import World
from tests.logs import disordered, duplicated, gru_manifest, random_gru, shop_log
from tests.ranked import random_head

pytestmark = pytest.mark.kafka

WHATS = ("category", "item")
VERSION = "gru-ranks"
GRACE_MS = 600_000
EVENTS = 1200


def publish_ranking(world: World) -> None:
    """Publish and announce an untrained GRU with a head for each thing."""
    network = random_gru(3)
    manifest = gru_manifest(network, VERSION, time.time_ns() // 1_000_000)
    recent = manifest.history_length
    ranked = {what: random_head(what, network.hidden_size, recent) for what in WHATS}
    rankings = tuple(Ranking(what, len(ranked[what].names)) for what in WHATS)
    manifest = msgspec.structs.replace(manifest, rankings=rankings)
    script = script_bytes(network)
    manifest = Registry(world.settings.models_dir).publish(
        manifest, script, make_golden(script, manifest, ranked), documents=files_of(ranked)
    )
    asyncio.run(announce(world.settings, manifest))


def shop_events() -> list[Event]:
    """Out of order, some of them twice, some without an item, and searches without any name."""
    found: list[Event] = []
    for number, event in enumerate(shop_log(51, EVENTS, users=40, days=10)):
        if number % 7 == 0:
            found.append(
                Search(
                    event_id=event.event_id,
                    user_id=event.user_id,
                    event_time=event.event_time,
                    query="shoes",
                )
            )
        else:
            bare = {"item_id": None} if number % 5 == 0 else {}
            found.append(msgspec.structs.replace(event, **bare))
    return duplicated(disordered(found, 51, GRACE_MS), 51, 0.1)


def recounted(world: World, predictions: Iterable[Prediction]) -> dict[str, tuple[float, ...]]:
    """(judged, hit rate, NDCG, hit rate of the last one) by definition, from the topics alone."""
    history: dict[str, dict[str, tuple[int, int, Event]]] = defaultdict(dict)
    ends: dict[int, int] = defaultdict(int)
    place: dict[str, int] = {}
    for record in world.raw(world.settings.topics.events):
        event = decode_event(record.value)
        known = (event.event_time, id_hash(event), event)
        history[event.user_id].setdefault(event.event_id, known)
        ends[record.partition] = max(ends[record.partition], event.event_time)
        place[event.user_id] = record.partition
    asked: dict[tuple[str, int], Prediction] = {}
    for prediction in predictions:
        key = (prediction.user_id, prediction.state_time)
        if prediction.automated:
            continue
        if key not in asked or asked[key].source.offset < prediction.source.offset:
            asked[key] = prediction
    found = {}
    for what, listed in (("category", "next_categories"), ("item", "next_items")):
        rows = []
        for (user, moment), prediction in asked.items():
            named = sorted(
                (at, tie, getattr(event, f"{what}_id"))
                for at, tie, event in history[user].values()
                if getattr(event, f"{what}_id") is not None
            )
            later = [one for one in named if one[0] > moment]
            if not later or later[0][0] + GRACE_MS >= ends[place[user]]:
                continue
            truth = later[0][2]
            before = [name for at, _, name in named if at <= moment]
            told = [getattr(one, f"{what}_id") for one in getattr(prediction, listed)]
            worth = 1 / log2(told.index(truth) + 2) if truth in told else 0.0
            rows.append((truth in told, worth, before[-1:] == [truth]))
        found[what] = (len(rows), *(sum(column) / len(rows) for column in zip(*rows, strict=True)))
    return found


def id_hash(event: Event) -> int:
    return xxhash.xxh3_64_intdigest(event.event_id.encode())


@pytest.mark.full
def test_outcomes_of_a_worker_that_ranks_are_those_of_a_recount(
    world: Callable[..., World],
) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "rank_top": 3, "batch_size": 128},
        state={"grace_ms": GRACE_MS},
    )
    publish_ranking(shop)
    log = shop_events()
    put(shop, log)
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    worker.stop()
    predictions = shop.read(shop.settings.topics.propensity, Prediction)
    assert {len(one.next_categories) for one in predictions} == {3}

    lines = shop.run("outcomes", "--once", "--json").splitlines()

    (metrics,) = [json.loads(line) for line in lines]
    (published,) = shop.read(shop.settings.topics.metrics, ModelMetrics)
    assert published.model_version == VERSION
    wanted = recounted(shop, predictions)
    for what in WHATS:
        judged, hit_rate, ndcg, last = wanted[what]
        figures = published.rankings[what]
        assert judged > EVENTS / 4
        assert 0 < hit_rate < 1
        assert (figures.total, figures.judged) == (judged, judged)
        assert figures.hit_rate == pytest.approx(hit_rate)
        assert figures.ndcg == pytest.approx(ndcg)
        assert figures.last_hit_rate == pytest.approx(last)
        assert metrics["rankings"][what]["ndcg"] == figures.ndcg
    shown = [line.split() for line in shop.run("status").splitlines()]
    judged, hit_rate, ndcg, last = wanted["item"]
    figures = [f"{figure:.4f}" for figure in (hit_rate, last, ndcg)]
    assert [VERSION, "champion", "next", "item", f"{judged:,}", *figures] in shown
