"""Kernels ready before the first event: compiled once per machine, else read from their cache.

As a program it compiles all of them, which `make setup` does so that no first worker has to.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Final

import numpy as np

from models.inputs.features import PROFILE_FEATURES
from models.networks.gru import Gru
from models.serving.artifact import script_bytes
from models.serving.scorer import Scorer, manifest_of, network_spec
from models.targets import shop_targets
from schemas.codec import encode
from schemas.events import Purchase, View
from stream.config.settings import Settings
from stream.kafka.batch import batches_of
from stream.kafka.sending import MAX_BATCH_BYTES
from stream.kernels.batches import Places, find_records
from stream.kernels.buffers import as_array
from stream.pipeline.due_times import DueTimes
from stream.pipeline.packed import Packed
from stream.pipeline.pipeline import Pipeline
from stream.pipeline.records import Records, Row
from stream.storage.changelog import STATE
from stream.storage.store_memory import MemoryStore
from stream.storage.table_files import write_table

if TYPE_CHECKING:
    from stream.pipeline.hidden import ScorerLike
    from stream.pipeline.outbox import Outbox

_TIME: Final = 1_700_000_000_000


def warm_up(settings: Settings, scorer: ScorerLike) -> None:
    """Run a few events through pipelines of their own, so that every kernel runs once.

    In order, out of order and broken ones, then one more over what was stored of them.
    """
    store = MemoryStore()
    for round_number in range(2):
        pipeline = Pipeline(
            settings=settings,
            topic=settings.topics.events,
            partition=0,
            partitions=1,
            store=store,
            scorer=scorer,
        )
        pipeline.process(_records(first_offset=10 * round_number))
        outbox = pipeline.drain()
        store.apply(outbox.changelog, outbox.timers, round_number)
        _write_batches(outbox)
    _read_a_changelog()


def _write_batches(outbox: Outbox) -> None:
    """Make batches of what would be sent: of messages in columns and of pairs."""
    for parts in ([Packed.of(outbox.changelog)], *(m.packed() for m in outbox.outputs.values())):
        for batch in batches_of(parts, _TIME, MAX_BATCH_BYTES, transactional=True):
            batch.built()


def _read_a_changelog() -> None:
    """Run what finds records in fetched batches and what a restore makes of them."""
    none = np.zeros(0, np.int64)
    find_records(as_array(b""), none, none, 0, Places.empty(0))
    records = Records.of([Row(0, _TIME, b"ub", b""), Row(1, _TIME, b"ua", b"")])
    newest = records.newest_run(STATE)
    dues = DueTimes()
    dues.add(newest.data, newest.key_begins, newest.key_ends, np.full(2, _TIME))
    with tempfile.TemporaryFile() as nowhere:
        for run in (newest, dues.index()):
            write_table(nowhere, run)


def _records(first_offset: int) -> Records:
    events = [
        Purchase(event_id=f"{first_offset}-{n}", user_id="warm-up", event_time=_TIME + later)
        for n, later in enumerate((0, 2, 1))
    ]
    events.append(View(event_id="\u00e9", user_id="warm-up", event_time=_TIME))  # type: ignore[arg-type]
    values = [*map(encode, events), b"{"]
    return Records.of(
        Row(first_offset + n, _TIME, b"warm-up", value) for n, value in enumerate(values)
    )


def _untrained() -> Scorer:
    """A GRU, whose recurrence is a kernel too."""
    targets = shop_targets(0, 1, 1)
    network = Gru(network_spec(targets)).eval()
    manifest = manifest_of(
        network,
        "warm-up",
        "gru",
        history_length=1,
        targets=targets,
        reference_profile=(0.0,) * len(PROFILE_FEATURES),
        created_at=_TIME,
    )
    return Scorer.of_script(script_bytes(network), manifest)


if __name__ == "__main__":
    scorer = _untrained()
    scorer.warm_up()
    warm_up(Settings(), scorer)
