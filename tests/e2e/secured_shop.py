"""A shop on the secured broker: every component has a user, a settings file, and its rights."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.codec import encode
from schemas.events import Event
from stream.config.settings import Settings, TopicSettings
from tests.e2e.world import World, run_program
from tests.secured import SecuredKafka, deployed
from tests.stream.kafka_tools import unique

PASSWORD = "INTENTSTREAM_KAFKA__SASL_PASSWORD"


class SecuredShop:
    """A shop whose components each have their own user."""

    def __init__(self, folder: Path, broker: SecuredKafka, **sections: Any) -> None:
        self.folder, self.broker = folder, broker
        name = unique("shop")
        topics = {kind: f"{name}.{kind}" for kind in TopicSettings.kinds()}
        self.tree = {
            **sections,
            "app_id": name,
            "data_dir": str(folder / "data"),
            "models_dir": str(folder / "models"),
            "topics": {"partitions": 2, **topics},
        }
        self.settings = Settings(**self.tree)
        self.users = {c: f"{c}-{name}" for c in deployed.components()}
        for component, user in self.users.items():
            broker.grant(user, deployed.rights(component, self.settings))
            self._write(component)
        self.world = World(folder, broker.internal, self.settings)

    def _write(self, component: str) -> None:
        kafka = self.broker.client(self.users[component])
        del kafka["sasl_password"]
        tree = self.tree | {"kafka": kafka}
        lines = [f"{k} = {json.dumps(v)}" for k, v in tree.items() if not isinstance(v, dict)]
        for section, values in tree.items():
            if isinstance(values, dict):
                lines.append(f"[{section}]")
                lines += [f"{k} = {json.dumps(v)}" for k, v in values.items()]
        self.config(component).write_text("\n".join(lines), encoding="utf-8")

    def config(self, component: str) -> Path:
        return self.folder / f"{component}.toml"

    def password(self, component: str) -> str:
        return self.broker.passwords[self.users[component]]

    def run(self, component: str, *arguments: str) -> str:
        done = run_program(
            *(*arguments, "--config", str(self.config(component))),
            **{PASSWORD: self.password(component)},
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def send(self, records: list[tuple[bytes, bytes]]) -> None:
        """As a program of the shop would, with the producer's user."""

        async def send() -> None:
            options = self.broker.client(self.users["producer"])
            settings = Settings(kafka=options)
            producer = AIOKafkaProducer(enable_idempotence=True, **settings.kafka.client_options())
            async with producer:
                for key, value in records:
                    await producer.send_and_wait(self.settings.topics.events, value, key=key)

        asyncio.run(send())

    def send_events(self, events: list[Event]) -> None:
        self.send([(event.user_id.encode(), encode(event)) for event in events])

    def granted(self) -> set[tuple[str, ...]]:
        return {
            (
                user,
                right.kind.upper(),
                right.name,
                "PREFIXED" if right.prefixed else "LITERAL",
                re.sub("(?<=[a-z])(?=[A-Z])", "_", right.operation).upper(),
            )
            for component, user in self.users.items()
            for right in deployed.rights(component, self.settings)
        }
