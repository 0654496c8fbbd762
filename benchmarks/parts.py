"""The parts of the benchmark, in the order in which they run."""

from benchmarks import (
    bytes_held,
    correct,
    growth,
    latency,
    pipeline,
    recovering,
    scaleout,
    small,
    stages,
    throughput,
)
from benchmarks.part import Part

PARTS: dict[str, Part] = {
    part.NAME: part
    for part in (
        throughput,
        stages,
        latency,
        bytes_held,
        recovering,
        growth,
        scaleout,
        pipeline,
        correct,
        small,
    )
}
