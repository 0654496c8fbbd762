"""Who is compared: how each is started, and what it does for an event."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import kafka_streams
from benchmarks.place import Place
from benchmarks.processes import ROOT, Program

BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
COMMIT_MS = 100
CACHE_BYTES = 256 << 20
RING = 50

Tree = Mapping[str, Any]
"""Settings, nested."""


@dataclass(frozen=True)
class Run:
    """One run of a contestant."""

    name: str
    """Unique; part of the name of every topic and group of the run."""
    source: str
    """Topic of the log."""
    partitions: int

    @property
    def output(self) -> str:
        """Topic with one message per event."""
        return f"{self.name}.propensity"


@dataclass(frozen=True)
class Contestant:
    """A stream processor with a task."""

    name: str
    about: str
    """What it does and with which settings, for the table."""
    start: Callable[[Place, Run], Program]
    peer: bool = True
    """Whether it needs `.venv-bench` or Java; False: what the product depends on is enough."""
    tree: Callable[[Place, Run], Tree] | None = None
    """The worker's settings; none: it is not ours."""


def worker_tree(place: Place, run: Run, guarantee: str, **sections: Tree) -> Tree:
    """The settings of a worker under test."""
    worker = {"guarantee": guarantee, "emit": "every", "commit_interval_ms": COMMIT_MS}
    tree: Tree = place.tree(
        run.name,
        run.source,
        run.partitions,
        worker={**worker, **sections.get("worker", {})},
        state={"ring": RING, **sections.get("state", {})},
    )
    return tree


def start_worker(place: Place, run: Run, tree: Tree, instance: str = "worker") -> Program:
    """Start `intentstream worker`; its settings go by the environment."""
    environment = dict(_variables("INTENTSTREAM", tree))
    environment["INTENTSTREAM_DATA_DIR"] = str(place.folder / run.name / instance)
    command = [sys.executable, "-m", "stream.cli.main", "worker", "--log-level", "warning"]
    return Program(command, place.folder / run.name / f"{instance}.log", environment)


def ours(name: str, about: str, guarantee: str, **sections: Tree) -> Contestant:
    """`intentstream` with these settings."""

    def tree(place: Place, run: Run) -> Tree:
        return worker_tree(place, run, guarantee, **sections)

    def start(place: Place, run: Run) -> Program:
        return start_worker(place, run, tree(place, run))

    return Contestant(name, about, start, peer=False, tree=tree)


def _variables(prefix: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        variable = f"{prefix}{'_' if prefix == 'INTENTSTREAM' else '__'}{name.upper()}"
        if isinstance(value, Mapping):
            yield from _variables(variable, value)
        else:
            yield variable, str(value)


Start = Callable[[Place, Run], Program]


def _peer(module: str, *, model: bool, python: Path = BENCH_PYTHON) -> Start:
    def start(place: Place, run: Run) -> Program:
        folder = place.folder / run.name / "state"
        folder.mkdir(parents=True)
        command = [str(python), "-m", f"benchmarks.peers.{module}"]
        command += ["--bootstrap", place.bootstrap, "--source", run.source, "--output", run.output]
        command += ["--group", run.name, "--folder", str(folder)]
        command += ["--partitions", str(run.partitions)]
        command += ["--model", str(place.script)] if model else []
        return Program(command, place.folder / run.name / "peer.log")

    return start


def _kafka_streams(guarantee: str, *, cache: bool, commit_ms: int = COMMIT_MS) -> Start:
    def start(place: Place, run: Run) -> Program:
        folder = place.folder / run.name / "state"
        arguments = [place.bootstrap, run.source, run.output, run.name, str(folder), guarantee]
        arguments += [str(CACHE_BYTES if cache else 0), str(commit_ms)]
        return Program([*kafka_streams.command(), *arguments], folder.with_name("java.log"))

    return start


ALO, EO = "intentstream at-least-once", "intentstream exactly-once"
FAUST = "Faust table agent"
QUIX, QUIX_GRU = "Quix Streams", "Quix Streams with the GRU"
BYTEWAX_GRU = "Bytewax with the GRU"
KS_ALO, KS_ALO_CACHE = "Kafka Streams at-least-once", "Kafka Streams at-least-once, cache"
KS_EO, KS_EO_CACHE = "Kafka Streams exactly_once_v2", "Kafka Streams exactly_once_v2, cache"
KS_DEFAULT = "Kafka Streams at-least-once, cache, commit every 30 s"

_OURS = "GRU on every event; record of 50 events in RocksDB, changelog; commits every"
_STREAMS = "no model; 1 thread, Java; 50 events in RocksDB, changelog; commits every"
CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        ours(ALO, f"{_OURS} batch", "at_least_once"),
        ours(EO, f"{_OURS} {COMMIT_MS} ms in a transaction", "exactly_once"),
        Contestant(
            KS_ALO_CACHE,
            f"{_STREAMS} {COMMIT_MS} ms; cache of {CACHE_BYTES >> 20} MiB",
            _kafka_streams("at_least_once", cache=True),
        ),
        Contestant(
            KS_EO_CACHE,
            f"{_STREAMS} {COMMIT_MS} ms; cache of {CACHE_BYTES >> 20} MiB",
            _kafka_streams("exactly_once_v2", cache=True),
        ),
        Contestant(
            KS_DEFAULT,
            f"{_STREAMS} 30 s, its default, so hardly ever here; cache of {CACHE_BYTES >> 20} MiB",
            _kafka_streams("at_least_once", cache=True, commit_ms=0),
        ),
        Contestant(
            KS_ALO, f"{_STREAMS} {COMMIT_MS} ms", _kafka_streams("at_least_once", cache=False)
        ),
        Contestant(
            KS_EO,
            f"{_STREAMS} {COMMIT_MS} ms",
            _kafka_streams("exactly_once_v2", cache=False),
        ),
        Contestant(
            BYTEWAX_GRU,
            "GRU over 50 events in micro-batches of 256; state in memory only",
            _peer("bytewax_flow", model=True),
        ),
        Contestant(QUIX, "no model; 50 events in RocksDB, changelog", _peer("quix", model=False)),
        Contestant(
            QUIX_GRU,
            "GRU over 50 events per event; RocksDB, changelog",
            _peer("quix", model=True),
        ),
        Contestant(
            FAUST,
            "no model; table of 50-item lists in RocksDB, changelog",
            _peer("faust_table", model=False, python=Path(sys.executable)),
            peer=False,
        ),
    )
}
