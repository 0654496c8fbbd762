"""Subscribe to predictions with nothing but a Kafka client and JSON.

python examples/subscribe_predictions.py --bootstrap-servers localhost:9092 --min-purchase 0.5

The engine writes in transactions: with isolation_level="read_committed" a subscriber never sees the
output of a worker that was killed half-way, and each prediction once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer


async def predictions(
    bootstrap_servers: str, topic: str, group: str, idle_seconds: float | None
) -> AsyncIterator[dict[str, Any]]:
    """Yield each prediction; end after `idle_seconds` without any (None: never)."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while True:
            try:
                record = await asyncio.wait_for(consumer.getone(), idle_seconds)
            except TimeoutError:
                return
            yield json.loads(record.value)
    finally:
        await consumer.stop()


async def show(options: argparse.Namespace) -> None:
    """Print every prediction at or above the threshold."""
    shown = 0
    async for prediction in predictions(
        options.bootstrap_servers, options.topic, options.group, options.idle_seconds
    ):
        scores = {name: target["probability"] for name, target in prediction["targets"].items()}
        if scores.get("purchase", 0.0) < options.min_purchase:
            continue
        listed = "  ".join(f"{name} {score:.1%}" for name, score in sorted(scores.items()))
        print(f"{prediction['user_id']}  {listed}  ({prediction['model_version']})", flush=True)
        shown += 1
        if options.limit and shown >= options.limit:
            return


def main() -> None:
    """Parse the command line and subscribe."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="predictions.propensity")
    parser.add_argument("--group", default="example-predictions")
    parser.add_argument("--min-purchase", type=float, default=0.0, help="show from this up")
    parser.add_argument("--limit", type=int, help="stop after this many")
    parser.add_argument("--idle-seconds", type=float, help="stop after this long without any")
    asyncio.run(show(parser.parse_args()))


if __name__ == "__main__":
    main()
