"""Produce a user's shopping session with nothing but a Kafka client and JSON.

python examples/produce_events.py --bootstrap-servers localhost:9092 --user ada

What matters in any language: the key is the user id in UTF-8; the partitioner is murmur2, which is
aiokafka's and Java's default (librdkafka: partitioner=murmur2_random); event_time is an integer in
milliseconds; and a retry sends the same event_id, which the engine then counts as a duplicate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import uuid

from aiokafka import AIOKafkaProducer

SESSION = (
    {"type": "search", "query": "red shoes"},
    {"type": "view", "item_id": "shoe-1", "category_id": "shoes"},
    {"type": "view", "item_id": "shoe-2", "category_id": "shoes"},
    {"type": "cart_add", "item_id": "shoe-2", "category_id": "shoes", "quantity": 1},
    {
        "type": "purchase",
        "item_id": "shoe-2",
        "category_id": "shoes",
        "price": 59.9,
        "currency": "EUR",
        "quantity": 1,
        "properties": {"campaign": "spring"},
    },
)


async def produce(bootstrap_servers: str, topic: str, user: str, sessions: int) -> int:
    """Send the session `sessions` times and return how many events the broker acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
    await producer.start()
    try:
        acknowledgements = []
        for step in SESSION * sessions:
            event = {
                **step,
                "event_id": str(uuid.uuid4()),
                "user_id": user,
                "event_time": time.time_ns() // 1_000_000,
                "schema_version": 1,
            }
            value = json.dumps(event).encode()
            acknowledgements.append(await producer.send(topic, value, key=user.encode()))
        return len(await asyncio.gather(*acknowledgements))
    finally:
        await producer.stop()


def main() -> None:
    """Parse the command line and produce."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="shop.events")
    parser.add_argument("--user", default="ada")
    parser.add_argument("--sessions", type=int, default=1)
    options = parser.parse_args()
    sent = asyncio.run(
        produce(options.bootstrap_servers, options.topic, options.user, options.sessions)
    )
    print(f"{sent} events of {options.user} are in {options.topic}")


if __name__ == "__main__":
    main()
