"""What it costs to see every commit's markers arrive (`stream/kafka/markers.py`).

    python -m benchmarks.markers [SECONDS]

Commits of one partition at the default interval, to a broker of its own, with and without the check
in turns: requests by kind, and CPU of this process, of which the producer and its client are most.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.broker import EmbeddedKafka
from stream.config.settings import WorkerSettings
from stream.partition import exactly_once
from stream.partition.exactly_once import ExactlyOnce
from stream.pipeline.outbox import Outbox

TOPICS = ("markers.changelog", "markers.propensity", "markers.churn")
RECORDS = 100
ROUNDS = 3


def outbox(number: int) -> Outbox:
    """Return what a commit of `RECORDS` events holds."""
    outputs = TOPICS[1:]
    records: list[tuple[bytes | None, bytes | None]] = [
        (b"user-%d" % user, b"x" * 200) for user in range(RECORDS)
    ]
    return Outbox(
        outputs=dict.fromkeys(outputs, records),
        changelog=records,
        timers=[],
        next_offset=number * RECORDS,
        records=RECORDS,
    )


async def not_asked(_producer: object, _written: object) -> None:
    """Take the place of `arrived`."""


async def commits(servers: str, seconds: float) -> tuple[int, float, list[float], Counter[str]]:
    """Commit at the default interval.

    Returns:
        Number of commits, CPU s, duration of each commit in ms, requests by kind.
    """
    requests: Counter[str] = Counter()
    send = AIOKafkaClient.send

    async def counted(client: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        requests[type(request).__name__] += 1
        return await send(client, node, request, **options)

    committer = ExactlyOnce(
        {"bootstrap_servers": servers},
        app_id="markers",
        source=TopicPartition("markers.events", 0),
        changelog=TOPICS[0],
        outputs=TOPICS[1:],
    )
    await committer.start()
    await committer.commit(outbox(0))
    AIOKafkaClient.send = counted
    try:
        interval_s = WorkerSettings().commit_interval_ms / 1000
        end, cpu, taken = time.monotonic() + seconds, time.process_time(), []
        while (began := time.monotonic()) < end:
            await committer.commit(outbox(len(taken) + 1))
            taken.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(max(interval_s - taken[-1] / 1000, 0))
        return len(taken), time.process_time() - cpu, taken, requests
    finally:
        AIOKafkaClient.send = send
        await committer.close()


async def measure(servers: str, seconds: float) -> None:
    """Measure in turns; print a line of JSON for each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1) for name in ("markers.events", *TOPICS)])
    await admin.close()
    checked = exactly_once.arrived
    await commits(servers, seconds)  # the broker's JVM compiles
    for number in range(2 * ROUNDS):
        asked = number % 2 == 0
        exactly_once.arrived = checked if asked else not_asked
        count, cpu, taken, requests = await commits(servers, seconds)
        print(
            json.dumps(
                {
                    "asked": asked,
                    "commits": count,
                    "cpu_us_per_commit": round(cpu / count * 1e6),
                    "commit_ms_p50": round(statistics.median(taken), 1),
                    "requests_per_commit": {
                        kind: round(n / count, 2) for kind, n in requests.most_common()
                    },
                    "requests_per_s": round(sum(requests.values()) / seconds, 1),
                }
            )
        )


def main() -> None:
    """Run on a broker in a temporary folder."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder) / "kafka")
        try:
            asyncio.run(measure(broker.start().bootstrap_servers, seconds))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
