"""What tests of the trainer share."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from models.log.eventlog import EventLog
from schemas.codec import encode
from schemas.events import Purchase, View
from stream.config.durations import DAY_MS
from stream.config.loading import load_settings
from stream.config.settings import Settings
from tests.conftest import Kafka
from tests.models.shop import PURCHASE
from tests.patience import PATIENCE_S

HORIZONS = {
    "purchase_horizon_ms": 3 * DAY_MS,
    "churn_horizon_ms": 10 * DAY_MS,
    "epochs": 2,
    "min_windows": 50,
}


def messages(log: EventLog) -> list[tuple[bytes, bytes]]:
    found = []
    for place, user in enumerate(log.users.tolist()):
        kind = Purchase if log.events.type[place] == PURCHASE else View
        event = kind(
            event_id=f"e{place}",
            user_id=f"u{user}",
            event_time=int(log.events.time[place]),
            item_id=f"i{log.events.item[place]}",
        )
        found.append((event.user_id.encode(), encode(event)))
    return found


class Nowhere:
    """A cluster that does not answer."""

    bootstrap_servers = "127.0.0.1:1"


def settings_for(folder: Path, kafka: Kafka | Nowhere | None = None, topic: str = "t") -> Settings:
    overrides = {
        "models_dir": folder,
        "data_dir": folder.parent / "data",
        # Too few users to choose a penalty by without luck.
        "train": HORIZONS | {"logistic_penalty": 0.03},
        "topics": {"events": topic, "models": f"{topic}-models", "erase": f"{topic}-erase"},
        "worker": {"check_partitioner": False},
    }
    if kafka is not None:
        overrides["kafka"] = {"bootstrap_servers": kafka.bootstrap_servers}
    return load_settings(overrides=overrides)


async def first_record(servers: str, topic: str) -> object:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return await asyncio.wait_for(consumer.getone(), PATIENCE_S)
    finally:
        await consumer.stop()


Cli = Callable[..., tuple[str, str]]
