"""Rankings of a model that is about to be published: fitted, judged, kept or left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.dataset import DatasetConfig
from models.data.split import TRAIN
from models.fitting.config import RefreshConfig
from models.fitting.fit import FitConfig, Progress
from models.history import history_dtype
from models.inputs.features import FEATURE_VERSION, ring_inputs
from models.log.eventlog import EventLog
from models.log.names import Names
from models.networks import build
from models.networks.base import Network
from models.networks.next_head import NextHead
from models.ranking.judge import GAIN, POPULARITY, RECENT
from models.ranking.train import Earlier, RankConfig, Rankings, rank_next
from models.serving.artifact import Artifact, open_script, read_artifact
from models.serving.rankings import CODES
from models.serving.registry import Registry
from models.serving.scorer import Scorer, network_spec
from models.targets import shop_targets
from models.training.gather import Gathered, gather
from models.training.train import TrainConfig, Trained, train
from models.training.warm import warm_heads, warm_network
from tests.models.shop import DAY, PURCHASE, START, circling, shop_log

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 3 * DAY, 10 * DAY)
SPEC = network_spec(TARGETS)
LENGTH = 16
DATA = DatasetConfig(history_length=LENGTH, min_points=50)
FIT = FitConfig(epochs=6, patience=2, windows=16, learning_rate=1e-2, weight_decay=0.01)
RANK = RankConfig(("category",), fit=FIT)
NOW = START + 100 * DAY


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shop() -> tuple[EventLog, dict[str, Names]]:
    return circling(shop_log(users=350, days=80))


def gathered_of(log: EventLog) -> Gathered:
    return gather(log, TARGETS, DATA, drop_late=True, now=NOW)


@pytest.fixture(scope="module")
def gathered(shop: tuple[EventLog, dict[str, Names]]) -> Gathered:
    return gathered_of(shop[0])


def network_of(architecture: str) -> Network:
    torch.manual_seed(1)
    return build(architecture, SPEC, 8)


def ranked(
    gathered: Gathered,
    names: dict[str, Names],
    config: RankConfig = RANK,
    architecture: str = "logistic",
    earlier: Earlier | None = None,
    news: list[Progress] | None = None,
) -> Rankings:
    return rank_next(
        network_of(architecture),
        SPEC,
        gathered.examples,
        gathered.split,
        LENGTH,
        names,
        config,
        7,
        None if news is None else news.append,
        earlier,
    )


@pytest.mark.parametrize("architecture", ["logistic", "gru", "transformer"])
def test_a_ranking_that_is_better_is_told_with_its_names(
    shop: tuple[EventLog, dict[str, Names]], gathered: Gathered, architecture: str
) -> None:
    found = ranked(gathered, shop[1], architecture=architecture)
    (ranking,) = found.rankings
    assert found.told == (ranking,)
    assert ranking.refused == ""
    assert ranking.moments >= 100
    assert ranking.metrics[GAIN] > 0.75
    assert 0.3 < ranking.baselines[RECENT][GAIN] < 0.6
    assert ranking.baselines[POPULARITY][GAIN] < 0.3
    one = found.ranked["category"]
    head = open_script(one.script, torch.device("cpu"))
    assert [CODES["category"](name) for name in one.names] == head.codes.tolist()
    assert ranking.vocabulary == len(one.names) > 30


def test_one_that_is_not_better_is_left_out_and_says_by_how_much(
    shop: tuple[EventLog, dict[str, Names]],
) -> None:
    """Everybody stays with one category: what was there last cannot be beaten."""
    log, names = circling(shop[0], length=1)
    found = ranked(gathered_of(log), names)
    (ranking,) = found.rankings
    assert found.told == ()
    assert found.ranked == {}
    assert ranking.baselines[RECENT][GAIN] == 1.0
    assert ranking.metrics[GAIN] > 0.8
    assert ranking.refused == f"not better than recent by {GAIN}"


@pytest.mark.full
def test_what_cannot_be_fitted_or_judged_says_why(
    shop: tuple[EventLog, dict[str, Names]], gathered: Gathered
) -> None:
    both = replace(RANK, whats=("item", "category"), least_moments=10**6)
    found = ranked(gathered, {"category": shop[1]["category"]}, both)
    item, category = found.rankings
    assert item.refused == "of no code of what is to be ranked the name is known"
    assert "later moments of held-out users to judge it by, of 1000000 needed" in category.refused
    assert found.ranked == {}
    diverging = replace(FIT, learning_rate=1e30, clip_norm=1e30)
    (ranking,) = ranked(gathered, shop[1], replace(RANK, fit=diverging)).rankings
    assert "the loss is not finite" in ranking.refused


def test_nothing_after_the_training_slice_is_learnt(
    shop: tuple[EventLog, dict[str, Names]], gathered: Gathered
) -> None:
    """Other codes from there on make the same head."""
    log, names = shop
    later = log.events.time > gathered.split.edges[1]
    events = replace(log.events, category=log.events.category.copy())
    events.category[later] = CODES["category"]("category 1")
    changed = gathered_of(EventLog(log.users, events))
    # It is judged on what came later, and that is another thing now.
    (ranking,) = ranked(changed, names).rankings
    assert ranking.baselines[RECENT][GAIN] > 0.9
    assert ranking.refused
    weights = _weights(gathered, names)
    for name, tensor in _weights(changed, names).items():
        assert torch.equal(tensor, weights[name]), name


def _weights(gathered: Gathered, names: dict[str, Names]) -> dict[str, torch.Tensor]:
    """Of the head that is fitted, whether it is told or not."""
    torch.manual_seed(7)
    heads: list[NextHead] = []

    class Kept(NextHead):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            heads.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.ranking.fit.NextHead", Kept)
        ranked(gathered, names)
    return heads[-1].state_dict()


def test_the_network_stays_as_it_is(
    shop: tuple[EventLog, dict[str, Names]], gathered: Gathered
) -> None:
    network = network_of("gru")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    rank_next(
        network, SPEC, gathered.examples, gathered.split, LENGTH, shop[1], RANK, 7
    )  # fmt: skip
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.fixture(scope="module")
def trained(shop: tuple[EventLog, dict[str, Names]]) -> Trained:
    config = TrainConfig(
        dataset=DATA,
        fit=FitConfig(epochs=2, patience=2, windows=64, learning_rate=3e-3),
        candidates=("logistic",),
        rank=replace(RANK, whats=("category", "item")),
    )
    log, names = shop
    return train(log, TARGETS, config, created_at=NOW, device="cpu", names=names)


class TestTheWholeRun:
    @pytest.mark.full
    def test_manifest_and_card_tell_the_figures(self, trained: Trained) -> None:
        category, item = trained.manifest.rankings
        assert (category.what, item.what) == ("category", "item")
        text = trained.card.markdown()
        own, lately = category.metrics, category.baselines[RECENT]
        assert f"| category | logistic | {own['hr_10']:.4f} | {own[GAIN]:.4f} |" in text
        assert f"| category | recent | {lately['hr_10']:.4f} | {lately[GAIN]:.4f} |" in text
        assert "- item: told. " in text
        assert "other names are never told" in text

    @pytest.mark.full
    def test_it_is_published_and_tells_the_circle(
        self, tmp_path_factory: pytest.TempPathFactory, trained: Trained
    ) -> None:
        registry = Registry(tmp_path_factory.mktemp("models"))
        manifest = registry.publish(
            trained.manifest, trained.script, trained.golden, documents=trained.documents()
        )
        scorer = Scorer.load(registry.resolve(manifest.version), "cpu")
        records = np.zeros(1, history_dtype(LENGTH))
        records["n"] = 9
        for place in range(9):
            name = f"{place % 3}"
            entry = records["ring"][0, place]
            entry["time"], entry["id"] = START + place, place
            entry["item"] = CODES["item"](f"item {name}")
            entry["category"] = CODES["category"](f"category {name}")
            entry["type"] = 1
        window = ring_inputs(records, np.zeros(1, np.intp), scorer.shown)
        for what in ("category", "item"):
            names, shares = scorer.rank(what, np.zeros((1, 0), np.float32), *window, 3)
            assert names[0, 0] == f"{what} 0"
            assert shares[0, 0] > 0.5

    def test_no_names_no_ranking_but_the_same_model(
        self, shop: tuple[EventLog, dict[str, Names]], trained: Trained
    ) -> None:
        config = TrainConfig(dataset=DATA, candidates=("logistic",), rank=RANK)
        found = train(shop[0], TARGETS, config, created_at=NOW, device="cpu")
        assert found.manifest.rankings == ()
        assert found.rankings == {}
        assert "not told: of no code of what is to be ranked the name is known" in (
            found.card.markdown()
        )
        assert found.manifest.metrics == trained.manifest.metrics
        assert "next_category" not in found.golden
        assert "next_category" in trained.golden

    def test_the_champions_heads_go_on(
        self, tmp_path: Path, shop: tuple[EventLog, dict[str, Names]], gathered: Gathered,
        trained: Trained,
    ) -> None:  # fmt: skip
        registry = Registry(tmp_path)
        registry.publish(
            trained.manifest, trained.script, trained.golden, documents=trained.documents()
        )
        artifact = registry_artifact(registry, trained)
        network = warm_network(artifact, TARGETS, 64)
        points = gathered.examples.of_slice(TRAIN)[:200]
        refresh = RefreshConfig(epochs=1)

        def again(points: np.ndarray, heads: dict[str, NextHead]) -> list[Progress]:
            news: list[Progress] = []
            found = ranked(
                gathered, shop[1], RANK, earlier=Earlier(heads, points, refresh), news=news
            )
            assert found.told
            assert found.told[0].metrics[GAIN] > 0.75
            return news

        warm = again(points, warm_heads(artifact, network))
        assert [news.epoch for news in warm] == [1]
        nothing_new = np.empty(0, np.intp)
        assert again(nothing_new, warm_heads(artifact, network)) == []
        # Of other codes it is fitted from the beginning.
        other = warm_heads(artifact, network)["item"]
        anew = again(points, {"category": other})
        assert len(anew) > 1
        assert warm[0].stopping_loss < anew[0].stopping_loss


def registry_artifact(registry: Registry, trained: Trained) -> Artifact:
    folder = registry.resolve(trained.manifest.version)
    return read_artifact(folder, feature_version=FEATURE_VERSION)
