"""After the warm-up no kernel is compiled any more: the first event waits for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc
import tempfile
from pathlib import Path

from numba.core.registry import CPUDispatcher
from models.serving.scorer import Scorer
from stream.kafka.batch import batches_of
from stream.pipeline.packed import Packed
from stream.storage.restoring import Restoring
from stream.config.settings import Settings
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity
from stream.testing import PipedRecord, PipelineDriver
from stream.health.vitals import Progress
from stream.worker.warming import warm_up
from tests.logs import TARGETS, disordered, duplicated, gru_scorer, raw, shop_log
from tests.stream.runs import each
from tests.stream.storage.test_changelog import batch, fetched


def ready():
    kernels = [x for x in gc.get_objects() if isinstance(x, CPUDispatcher)]
    return {f"{k.py_func.__module__}.{k.py_func.__name__}": sorted(map(str, k.signatures))
            for k in kernels if k.py_func.__module__.startswith(("models.", "stream."))}


settings = Settings(worker={"emit": "every", "clock": "event"}, state={"ring": 8})
scorer = gru_scorer()
scorer.warm_up()
warm_up(settings, Scorer.rhythm(TARGETS))
before = ready()
driver = PipelineDriver(scorer, settings)
driver.pipe(duplicated(disordered(shop_log(1, 400, days=3), 1, 900_000), 1, 0.1), batch=90)
driver.restart()
driver.pipe(shop_log(2, 100, days=3))
counters = driver.pipeline.counters
end = driver.pipeline.source_offset
driver.pipeline.process(
    [PipedRecord(end + n, t, k, v) for n, (k, v, t) in enumerate(raw(shop_log(4, 50, days=3)))]
)
outbox = driver.pipeline.drain()
told = outbox.outputs[settings.topics.propensity].packed()
for parts in (told, [*told, Packed.of(outbox.changelog)], [Packed.of([(b"k", None)])]):
    for sent in batches_of(parts, 5, 2000, transactional=False):
        sent.built()
content = [(b"u%d" % n, b"%d" % n) for n in range(20)]
with tempfile.TemporaryDirectory() as name:
    store = RocksStore.open(Path(name) / "db", StoreIdentity("app", "app.users.changelog", 0, 1))
    restoring = Restoring(store, each(int))
    restoring.begin()
    (part,) = fetched(batch(0, dict(enumerate(content)))).parts()
    restoring.take(part.records, 19)
    restoring.finish(19, Progress())
    restoring.close()
    assert len(store.due(2**62, 99)) == 20
    store.close()
assert counters.late and counters.duplicate and counters.accepted
assert before["stream.kernels.packing.write_records"]
assert before["models.kernels.history._take_events"]
assert ready() == before
"""


@pytest.mark.full
def test_nothing_is_compiled_after_the_warm_up() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=True)
