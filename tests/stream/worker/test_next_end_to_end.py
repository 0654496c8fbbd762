"""From a file of events to predictions: trained with `train.rank`, published, served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import UNSET

from models.inputs.features import ring_inputs
from models.ranking.judge import GAIN, RECENT
from models.serving.registry import Registry
from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.events import Event, Purchase, View
from stream.config.durations import DAY_MS
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.errors import SettingsError
from stream.learning.sources import FromFiles
from stream.learning.trainer import config_of, refresher_of, run_round
from stream.testing import PipelineDriver
from tests.models.shop import PURCHASE, circling, shop_log

TRAIN = {
    "purchase_horizon_ms": 3 * DAY_MS,
    "churn_horizon_ms": 10 * DAY_MS,
    "min_windows": 50,
    "architecture": "logistic",
    "rank": ["category"],
}


def shop() -> list[Event]:
    log, names = circling(shop_log(users=250, days=80))
    category = {code: name for code, _, name in names["category"].rows()}
    found = []
    for place, user in enumerate(log.users.tolist()):
        kind = Purchase if log.events.type[place] == PURCHASE else View
        found.append(
            kind(
                event_id=f"e{place}",
                user_id=f"u{user}",
                event_time=int(log.events.time[place]),
                category_id=category[int(log.events.category[place])],
                item_id=f"i{place}",
            )
        )
    return found


def settings_for(folder: Path, **train: object) -> Settings:
    return load_settings(
        overrides={
            "models_dir": folder / "models",
            "data_dir": folder / "data",
            "train": TRAIN | train,
            "worker": {"clock": "event", "emit": "every", "rank_top": 3},
        }
    )


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return shop()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written(path: Path, events: list[Event]) -> Path:
    path.write_bytes(b"\n".join(map(encode, events)))
    return path


def test_the_settings_say_what_is_ranked(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, rank=["item", "category", "item"], rank_vocabulary=99)
    rank = config_of(settings, drop_late=False).rank
    assert (rank.whats, rank.vocabulary, rank.least_moments) == (("item", "category"), 99, 100)
    assert config_of(settings_for(tmp_path, rank=[]), drop_late=False).rank.whats == ()
    with pytest.raises(SettingsError, match=r"train\.rank: .*category"):
        settings_for(tmp_path, rank=["brand"])


@pytest.mark.full
def test_predictions_tell_the_next_category(tmp_path: Path, events: list[Event]) -> None:
    settings = settings_for(tmp_path)
    source = FromFiles((written(tmp_path / "shop.jsonl", events),), settings=settings)
    done = run_round(settings, source, device="cpu", announced=False)
    (ranking,) = done.manifest.rankings
    assert ranking.metrics[GAIN] > ranking.baselines[RECENT][GAIN] + 0.2

    scorer = Scorer.load(Registry(settings.models_dir).resolve(done.manifest.version), "cpu")
    driver = PipelineDriver(scorer, settings)
    driver.pipe(events[:1500], batch=64)
    right = asked = 0
    later = next_categories(events[:1500])
    for prediction in driver.predictions():
        truth = later.get(prediction.source.offset)
        names = [one.category_id for one in prediction.next_categories]
        assert len(names) == 3
        assert prediction.next_items is UNSET
        if truth is not None:
            asked += 1
            right += names[0] == truth
    assert asked > 300
    assert right / asked > 0.5

    last = driver.predictions()[-1]
    record = np.array([driver.records()[last.user_id]])
    window = ring_inputs(record, np.zeros(1, np.intp), scorer.shown)
    names, shares = scorer.rank("category", np.zeros((1, 0), np.float32), *window, 3)
    assert [one.category_id for one in last.next_categories] == names[0].tolist()
    told = [one.probability for one in last.next_categories]
    assert told == pytest.approx(shares[0].tolist(), abs=1e-7)


def next_categories(events: list[Event]) -> dict[int, str]:
    """Offset of an event, of users who have been round their circle -> what came next."""
    found, last, count = {}, {}, {}
    for offset, event in enumerate(events):
        user = event.user_id
        if count.get(user, 0) >= 3:
            found[last[user]] = str(event.category_id)
        last[user], count[user] = offset, count.get(user, 0) + 1
    return found


@pytest.mark.full
def test_a_refresh_goes_on_with_the_names_of_the_rounds_before(
    tmp_path: Path, events: list[Event]
) -> None:
    """Two processes; the second reads what is new only."""
    settings = settings_for(tmp_path)
    cut = len(events) * 4 // 5
    told = []
    for number, part in enumerate((events[:cut], events[cut:])):
        path = written(tmp_path / f"{number}.jsonl", part)
        source = FromFiles((path,), settings=settings)
        refresher = refresher_of(settings, source, kept=True)
        done = run_round(settings, source, device="cpu", announced=False, refresher=refresher)
        told.append(done.manifest.rankings)
    assert [len(rankings) for rankings in told] == [1, 1]
    assert told[1][0].vocabulary == told[0][0].vocabulary
    assert told[1][0].metrics[GAIN] > told[1][0].baselines[RECENT][GAIN]
