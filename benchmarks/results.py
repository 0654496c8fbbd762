"""bench.json: what each part measured in each sitting, and the tables that follow from it."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import throughput
from benchmarks.measures import judged
from benchmarks.parts import PARTS

Results = dict[str, Any]
_PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "rocksdict", "numpy", "msgspec")
_PEERS = ("quixstreams", "bytewax", "confluent-kafka")
_SITE = Path(".venv-bench/lib")


def machine() -> dict[str, Any]:
    """Where it was measured, and with what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(memory / (1 << 30), 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "packages": _versions(_PACKAGES),
        "peers": _versions(_PEERS, _SITE),
        "kafka": "4.3.1 (embedded broker on the same machine)",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def _versions(names: Iterable[str], site: Path | None = None) -> dict[str, str]:
    found = {}
    paths = [str(path) for path in site.glob("*/site-packages")] if site else None
    for name in names:
        hits = metadata.distributions(name=name, path=paths or sys.path)
        versions = [hit.version for hit in hits]
        if versions:
            found[name] = versions[0]
    return found


def read(path: Path) -> Results:
    """The results of earlier sittings; of none where there is no file."""
    if not path.exists():
        return {"raw": {}}
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    return found


def added(results: Results, name: str, raw: Mapping[str, Any]) -> Results:
    """The results with one more sitting of a part, and all tables made anew."""
    sittings = results.get("raw", {})
    return tables({**results, "raw": {**sittings, name: [*sittings.get(name, []), raw]}})


def tables(results: Results) -> Results:
    """Contestants and measures, derived from the raw runs alone."""
    raw = results["raw"]
    values: dict[str, float] = {}
    for name, part in PARTS.items():
        if raw.get(name):
            values |= part.values(raw[name], values)
    measures = [row for part in PARTS.values() for row in judged(part.MEASURES, values)]
    contestants = throughput.table(raw.get(throughput.NAME, []))
    return {**results, "contestants": contestants, "measures": measures}


def write(results: Results, path: Path) -> None:
    """Write all of it, at once."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
