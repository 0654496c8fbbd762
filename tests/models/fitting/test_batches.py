"""Every point is in one batch, with its own window."""

from __future__ import annotations

import numpy as np
import torch

from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.split import TRAIN, TimeSplit
from models.fitting.batches import Batch, Batches
from models.log.eventlog import in_order
from models.targets import shop_targets
from tests.models.shop import DAY, PURCHASE, shop_log

CONFIG = DatasetConfig(history_length=8, event_points=6, silence_points=6, min_points=10)


def made() -> Examples:
    ordered = in_order(shop_log(users=80), None)
    times = ordered.log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 8 * DAY, 0, 0.2, 0.2)
    return build_examples(ordered, shop_targets(PURCHASE, 2 * DAY, 8 * DAY), split, CONFIG)


def check(batch: Batch, examples: Examples) -> None:
    assert batch.ids.shape[:2] == (len(batch.length), int(batch.length.max()))
    assert int(batch.length.max()) <= CONFIG.history_length
    for place, point in enumerate(batch.points.tolist()):
        row, position = int(batch.row[place]), int(batch.position[place])
        assert position < int(batch.length[row])
        start = int(examples.start[point])
        assert start + position == examples.event[point]
        window = slice(start, start + position + 1)
        assert np.array_equal(batch.ids[row, : position + 1].numpy(), examples.ids[window])
        assert np.array_equal(batch.nums[row, : position + 1].numpy(), examples.nums[window])
        assert np.array_equal(batch.profile[place].numpy(), examples.profile[point])
        labels = batch.labels[place].numpy()
        assert np.array_equal(labels, examples.labels[point], equal_nan=True)


def test_batches_hold_every_point_once_in_any_order() -> None:
    examples = made()
    points = examples.of_slice(TRAIN)
    batches = Batches(examples, points, 16, torch.device("cpu"))
    rng = np.random.default_rng(0)
    for order in (iter(batches), batches.shuffled(rng), batches.shuffled(rng)):
        found = []
        count = 0
        for batch in order:
            check(batch, examples)
            found += batch.points.tolist()
            count += 1
        assert sorted(found) == sorted(points.tolist())
        assert count == len(batches)
    assert sorted(batches.points.tolist()) == sorted(points.tolist())
