"""What users turn to next, in predictions: the scorer's own numbers, wherever batches end."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st
from msgspec import UNSET

from models.inputs.features import PROFILE_FEATURES, ring_inputs
from models.networks import build
from models.serving.artifact import script_bytes
from models.serving.scorer import Scorer, manifest_of, network_spec
from schemas.codec import decode, encode
from schemas.outputs import NextCategory, NextItem, Prediction
from stream.config.settings import Settings
from stream.kernels.predictions import DIGITS
from stream.operations.watch import VIEWS
from stream.pipeline.ranking import Ranks, spliced
from stream.pipeline.rollout import Serving, Trials
from stream.testing import PipelineDriver
from tests.logs import TARGETS, disordered, duplicated, gru_scorer, raw, shop_log
from tests.ranked import KNOWN, random_head, ranking_scorer
from tests.schemas.test_outputs import predictions

pytestmark = pytest.mark.slow

UNITS = 10**DIGITS
RING = 8
LENGTH = 6
"""Of the windows that the model of another architecture is shown; the ring holds more."""


def settings(emit: str = "every", **worker: object) -> Settings:
    return Settings(worker={"clock": "event", "emit": emit, **worker}, state={"ring": RING})


def scorer_of(architecture: str) -> Scorer:
    """An untrained model with heads that matter."""
    if architecture == "gru":
        return ranking_scorer()
    network = build(architecture, network_spec(TARGETS), 8)
    manifest = manifest_of(
        network,
        f"{architecture}-ranks",
        architecture,
        history_length=LENGTH,
        targets=TARGETS,
        reference_profile=(0.0,) * len(PROFILE_FEATURES),
        created_at=1,
    )
    ranked = {what: random_head(what, network.hidden_size, LENGTH) for what in ("category", "item")}
    return Scorer.of_script(script_bytes(network), manifest, ranked=ranked)


def log(seed: int = 1) -> list[Any]:
    return duplicated(disordered(shop_log(seed, 300, users=9), seed, 900_000), seed, 0.1)


def told(prediction: Prediction) -> dict[str, list[tuple[str, float]]]:
    return {
        "category": [(one.category_id, one.probability) for one in prediction.next_categories],
        "item": [(one.item_id, one.probability) for one in prediction.next_items],
    }


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["gru", "logistic", "transformer"])
def test_predictions_tell_what_the_scorer_says_over_the_ring(architecture: str) -> None:
    scorer = scorer_of(architecture)
    driver = PipelineDriver(scorer, settings())
    checked = 0
    for event in log():
        driver.outputs.clear()
        driver.pipe([event])
        for prediction in driver.predictions():
            record = np.array([driver.records()[prediction.user_id]])
            hidden = record["hidden"][:, : scorer.hidden_size]
            row = np.zeros(1, np.intp)
            if architecture == "gru" and record["n"][0] <= min(scorer.rebuilds, RING):
                # Short histories are stored without their state.
                hidden = scorer.encode(*ring_inputs(record, row, scorer.history_length))
            window = ring_inputs(record, row, scorer.shown)
            for what, pairs in told(prediction).items():
                names, shares = scorer.rank(what, hidden, *window, 5)
                assert [name for name, _ in pairs] == names[0].tolist()
                units = np.rint(shares[0].astype(np.float64) * UNITS) / UNITS
                assert [share for _, share in pairs] == units.tolist()
                checked += 1
    assert checked > 500


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["gru", "logistic", "transformer"])
@pytest.mark.parametrize("size", [7, 61, 4096])
def test_where_micro_batches_end_does_not_show(architecture: str, size: int) -> None:
    scorer = scorer_of(architecture)
    alone, together = (PipelineDriver(scorer, settings()) for _ in range(2))
    alone.pipe(log(), batch=1)
    together.pipe(log(), batch=size)
    # Alerts of one user have an order, those of several users have none.
    for driver in (together, alone):
        driver.outputs.get(driver.settings.topics.churn, []).sort()
    assert together.outputs == alone.outputs
    latest = PipelineDriver(scorer, settings("latest"))
    latest.pipe(log(), batch=size)
    every = {one.prediction_id: one for one in alone.predictions()}
    found = latest.predictions()
    assert len(found) > 5
    for one in found:
        assert one == every[one.prediction_id]


def test_after_a_restart_the_same_is_told() -> None:
    scorer = ranking_scorer()
    whole, stopped = (PipelineDriver(scorer, settings()) for _ in range(2))
    whole.pipe(log(), batch=50)
    records = raw(log())
    stopped.pipe_raw(records[:150], batch=50)
    stopped.restart()
    stopped.pipe_raw(records[150:], batch=50)
    assert stopped.outputs == whole.outputs


def test_only_what_is_known_by_name_is_told_the_likeliest_first() -> None:
    driver = PipelineDriver(ranking_scorer(), settings(rank_top=9))
    driver.pipe(log())
    seen: set[str] = set()
    for prediction in driver.predictions():
        found = told(prediction)
        assert [len(pairs) for pairs in found.values()] == [KNOWN["category"], 9]
        for pairs in found.values():
            shares = [share for _, share in pairs]
            assert shares == sorted(shares, reverse=True)
            assert sum(shares) <= 1 + 1e-5
            seen |= {name for name, _ in pairs}
    assert {name for name in seen if name.startswith("category")} == {
        f"category-{number}" for number in range(KNOWN["category"])
    }
    assert f"item-{KNOWN['item']}" not in seen


@pytest.mark.parametrize("whats", [("category",), ("item",), ("item", "category")])
def test_what_the_model_does_not_rank_is_absent(whats: tuple[str, ...]) -> None:
    driver = PipelineDriver(ranking_scorer(whats=whats), settings())
    driver.pipe(log())
    values = [value for _, value in driver.outputs[driver.settings.topics.propensity]]
    assert len(values) > 200
    for value in values:
        prediction = decode(Prediction, value)
        assert (prediction.next_categories is UNSET) == ("category" not in whats)
        assert (prediction.next_items is UNSET) == ("item" not in whats)
        assert encode(prediction) == value


def test_without_rankings_there_is_no_byte_more() -> None:
    plain = PipelineDriver(gru_scorer("gru-ranks"), settings())
    silent = PipelineDriver(ranking_scorer(), settings(rank_top=0))
    for driver in (plain, silent):
        driver.pipe(log())
    assert silent.outputs == plain.outputs
    values = [value for _, value in plain.outputs[plain.settings.topics.propensity]]
    assert not any(b"next_" in value for value in values)


def test_rankings_leave_scores_and_alerts_as_they_are() -> None:
    plain, ranking = (
        PipelineDriver(gru_scorer("gru-ranks"), settings()),
        PipelineDriver(ranking_scorer(), settings()),
    )
    for driver in (plain, ranking):
        driver.pipe(log(), batch=40)
    assert ranking.alerts() == plain.alerts()
    stripped = [
        msgspec.structs.replace(one, next_categories=UNSET, next_items=UNSET)
        for one in ranking.predictions()
    ]
    assert stripped == plain.predictions()


def test_models_on_trial_tell_their_own() -> None:
    champion = ranking_scorer("champion", 0, ("category",))
    canary, shadow = ranking_scorer("canary", 1), ranking_scorer("shadow", 2, ("item",))
    both = PipelineDriver(champion, settings())
    both.pipeline.replace_scorer(Serving(champion, Trials(canary, 0.5, shadow)))
    both.pipe(log(), batch=30)
    found = both.predictions()
    assert {one.model_version for one in found} == {"champion", "canary"}
    for one in found:
        assert one.next_categories is not UNSET
        assert (one.next_items is UNSET) == (one.model_version == "champion")
    alone = PipelineDriver(canary, settings())
    alone.pipe(log(), batch=30)
    every = {one.source: one for one in alone.predictions()}
    mine = [one for one in found if one.model_version == "canary"]
    assert len(mine) > 50
    assert all(one == every[one.source] for one in mine)
    shadows = both._read(both.settings.topics.shadow, Prediction)
    assert len(shadows) > 20
    for one in shadows:
        assert one.next_categories is UNSET
        assert one.next_items is not UNSET


@pytest.mark.full
def test_a_shadow_tells_what_it_would_tell_if_it_served() -> None:
    """A model that is not recurrent: its states do not depend on when it took over."""
    champion, shadow = ranking_scorer(), scorer_of("logistic")
    trial = PipelineDriver(champion, settings())
    trial.pipeline.replace_scorer(Serving(champion, Trials(shadow=shadow)))
    trial.pipe(log(), batch=1)
    served = PipelineDriver(shadow, settings())
    served.pipe(log(), batch=1)
    assert trial._read(trial.settings.topics.shadow, Prediction) == served.predictions()


def test_user_ids_that_need_escapes_are_told_the_same() -> None:
    plain, odd = (PipelineDriver(ranking_scorer(), settings()) for _ in range(2))
    plain.pipe(log())
    quoted = [(b'"' + key, value.replace(b'"user_id":"', b'"user_id":"\\"'), time)
              for key, value, time in raw(log())]  # fmt: skip
    odd.pipe_raw(quoted)
    for ours, theirs in zip(odd.predictions(), plain.predictions(), strict=True):
        assert ours.user_id == f'"{theirs.user_id}'
        assert told(ours) == told(theirs)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
pairs = st.lists(st.tuples(texts, st.floats(0, 1, width=32)), min_size=1, max_size=6)


@tried(max_examples=100, deadline=None, database=None)
@given(predictions, pairs, pairs, st.sampled_from([("category",), ("item",), ("category", "item")]))
def test_the_bytes_are_msgspecs(
    plain: Prediction,
    categories: list[tuple[str, float]],
    items: list[tuple[str, float]],
    whats: tuple[str, ...],
) -> None:
    plain = msgspec.structs.replace(plain, next_categories=UNSET, next_items=UNSET)
    drawn = {"category": categories, "item": items}
    ranks = {
        what: Ranks(
            np.array([[name for name, _ in drawn[what]]], object),
            np.array([[share for _, share in drawn[what]]], np.float32),
        )
        for what in whats
    }
    entries = {
        "next_categories": [NextCategory(name, round(s * UNITS) / UNITS) for name, s in categories],
        "next_items": [NextItem(name, round(s * UNITS) / UNITS) for name, s in items],
    }
    absent = {"category": "next_categories", "item": "next_items"}
    wanted = {absent[what]: entries[absent[what]] for what in whats}
    (value,) = spliced([encode(plain)], ranks)
    assert value == encode(msgspec.structs.replace(plain, **wanted))


def test_watch_shows_the_likeliest() -> None:
    driver = PipelineDriver(ranking_scorer(), settings())
    driver.pipe(log())
    prediction = driver.predictions()[-1]
    cells = VIEWS["predictions"].cells(prediction)
    first = prediction.next_categories[0]
    assert f"next {first.category_id} {first.probability:.1%}" in cells[2]
    item = prediction.next_items[0]
    assert f"next {item.item_id} {item.probability:.1%}" in cells[2]
