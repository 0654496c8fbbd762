import asyncio
import socket
import urllib.error
import urllib.request

import pytest

from stream.config.settings import WorkerSettings
from stream.errors import WorkerError
from stream.health.health import Answer
from stream.health.web import WebServer
from tests.patience import PATIENCE_S

TOKEN = "a-token-of-the-test"


class Site:
    """The pages of nobody, whose health a test decides."""

    def __init__(self, **settings):
        self.ready = True
        self.server = WebServer(
            WorkerSettings(http_port=0, **settings),
            lambda: Answer(self.ready, b'{"ready": true}'),
            lambda: b"intentstream_ready 1.0\n",
        )
        self.server.start()

    def get(self, path, headers=None, host="127.0.0.1"):
        request = urllib.request.Request(
            f"http://{host}:{self.server.port}{path}", headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers


@pytest.fixture
def site():
    made = []

    def make(**settings):
        made.append(Site(**settings))
        return made[-1]

    yield make
    for each in made:
        each.server.close()


def test_health_is_a_status_and_a_document(site):
    it = site()
    status, body, headers = it.get("/health")
    assert (status, body) == (200, b'{"ready": true}')
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Cache-Control"] == "no-store"
    it.ready = False
    assert it.get("/health")[0] == 503


def test_metrics_are_text(site):
    status, body, headers = site().get("/metrics")
    assert (status, body) == (200, b"intentstream_ready 1.0\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_nothing_else_is_served(site):
    it = site()
    assert it.get("/")[0] == 404
    assert it.get("/table/users")[0] == 404


@pytest.mark.parametrize(
    "sent", ["B\u00e9arer".encode(), "B\u00e9arer".encode("latin-1"), b"\xff\xfe", b""]
)
@pytest.mark.parametrize("token", [TOKEN, "t\u00f6ken-with-an-umlaut"])
def test_header_of_any_bytes_is_an_answer(site, sent, token):
    it = site(http_host="0.0.0.0", http_token=token)  # noqa: S104
    with socket.create_connection(("127.0.0.1", it.server.port), PATIENCE_S) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\nAuthorization: " + sent + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 401 ")
    assert it.get("/health", {"Authorization": f"Bearer {token}".encode()})[0] == 200


@pytest.mark.parametrize("path", ["/health", "/metrics", "/nowhere"])
def test_a_token_is_asked_for_everywhere(site, path):
    it = site(http_host="0.0.0.0", http_token=TOKEN)  # noqa: S104
    for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": TOKEN}):
        status, body, answer = it.get(path, headers)
        assert (status, body) == (401, b"a token is needed\n")
        assert answer["WWW-Authenticate"] == "Bearer"
    assert it.get("/health", {"Authorization": f"Bearer {TOKEN}"})[0] == 200


def test_it_answers_while_the_event_loop_of_the_worker_is_held_up(site):
    it = site()

    async def held_up():
        return it.get("/health")[0]  # blocks this loop

    assert asyncio.run(held_up()) == 200


def test_a_port_in_use_is_named():
    first = Site()
    try:
        taken = WebServer(
            WorkerSettings(http_port=first.server.port), lambda: Answer(True, b""), lambda: b""
        )
        with pytest.raises(WorkerError, match=rf"cannot listen on 127.0.0.1:{first.server.port}"):
            taken.start()
    finally:
        first.server.close()
        first.server.close()
