"""Sends a log at given rates and notes when each event was handed to its producer.

    python -m benchmarks.sender BOOTSTRAP TOPIC EVENTS-USERS-PARTITIONS OUT.npz PHASE...

A phase is RATE:WARM_S:SECONDS: it sends at that rate for a while before it counts. What is due
within a millisecond is sent together, one request per partition. OUT.npz has, per partition p,
`sent_p` (ns since the epoch, in order of offset) and `rate_p` (0: not counted).
"""

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks.log import LogPlan, rows
from stream.pipeline.ingest import partition_of
from stream.replay.order import Row

_TICK_S = 0.001


class Sender:
    """Hands rows to a producer, one batch per partition and tick."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        """Note nothing yet."""
        self._producer, self._topic, self._partitions = producer, topic, partitions
        self.sent: list[list[int]] = [[] for _ in range(partitions)]
        self.rate: list[list[int]] = [[] for _ in range(partitions)]
        self._places: dict[bytes, int] = {}

    async def send(self, batch: list[Row], rate: int) -> None:
        """Send rows that are due now."""
        builders: dict[int, BatchBuilder] = {}
        for row in batch:
            key = row.key or b""
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = partition_of(key, self._partitions)
            builder = builders.get(place)
            if builder is None:
                builder = builders[place] = self._producer.create_batch()
            builder.append(key=key, value=row.value, timestamp=None)
            self.sent[place].append(time.time_ns())
            self.rate[place].append(rate)
        for place, builder in builders.items():
            await self._producer.send_batch(builder, self._topic, partition=place)

    async def keep_pace(self, source: list[Row], per_second: int, rate: int) -> None:
        """Send these rows at a pace."""
        begun, done = time.perf_counter(), 0
        while done < len(source):
            due = min(int((time.perf_counter() - begun) * per_second) + 1, len(source))
            if due > done:
                await self.send(source[done:due], rate)
                done = due
            await asyncio.sleep(_TICK_S)


async def main(bootstrap: str, topic: str, sizes: str, out: str, *phases: str) -> None:
    """Send all phases, one after the other."""
    plan = LogPlan(*map(int, sizes.split("-")))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, max_batch_size=1 << 20)
    await producer.start()
    sender = Sender(producer, topic, plan.partitions)
    source, at = list(rows(plan)), 0
    try:
        for phase in phases:
            rate, warm_s, seconds = (float(part) for part in phase.split(":"))
            for counted, length_s in ((0, warm_s), (int(rate), seconds)):
                count = int(rate * length_s)
                await sender.keep_pace(source[at : at + count], int(rate), counted)
                at += count
        await producer.flush()
    finally:
        await producer.stop()
    arrays = {f"sent_{p}": np.array(times, np.int64) for p, times in enumerate(sender.sent)}
    arrays |= {f"rate_{p}": np.array(rates, np.int64) for p, rates in enumerate(sender.rate)}
    partial = Path(out).with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(out)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
