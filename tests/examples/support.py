"""Running an example as a user would, beside a real webhook and real topics."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.codec import encode

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_SECONDS = 90


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *arguments]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(name, *arguments))


async def new_topic(bootstrap_servers: str, partitions: int = 1) -> str:
    name = f"test-examples-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()
    return name


async def put(
    bootstrap_servers: str,
    topic: str,
    messages: Sequence[msgspec.Struct],
    *,
    commit: bool = True,
) -> None:
    """Write messages in one transaction, as the engine does, and commit or abort it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=f"test-{uuid.uuid4().hex}"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for message in messages:
            key = str(getattr(message, "user_id", "")).encode()
            await producer.send_and_wait(topic, encode(message), key=key)
        if commit:
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
    finally:
        await producer.stop()


@dataclass
class Webhook:
    """A local HTTP server that records what it gets and answers as told."""

    answer: Callable[[int], int]
    """Number of the request, from 0 -> status."""
    url: str = ""
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Idempotency key and body of every request."""
    arrived: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def webhook(answer: Callable[[int], int], *, hold: bool = False) -> Iterator[Webhook]:
    """Serve until the block ends; with `hold`, answers wait for `release`."""
    state = Webhook(answer)
    if not hold:
        state.release.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.posts.append((self.headers["Idempotency-Key"], body))
            number = len(state.posts) - 1
            state.arrived.set()
            state.release.wait(TIMEOUT_SECONDS)
            try:
                self.send_response(state.answer(number))
                self.send_header("Content-Length", "0")
                self.end_headers()
            except ConnectionError:
                return

        def log_message(self, *_: Any) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/actions"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
