"""Two pages, `/health` and `/metrics`, on a thread of their own.

A process whose event loop is held up must still say so. On the loopback interface anybody on the
machine may read them (they name no user); anywhere else a token is needed.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from stream.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stream.config.settings import WorkerSettings
    from stream.health.health import Answer

START_TIMEOUT_S: Final = 10.0
_BODY_BYTES: Final = 1024
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

log = structlog.get_logger(__name__)


class WebServer:
    """Serves the pages of a process until it is closed."""

    def __init__(
        self,
        settings: WorkerSettings,
        health: Callable[[], Answer],
        metrics: Callable[[], bytes],
        setting: str = "worker.http_port",
    ) -> None:
        """Open nothing.

        Args:
            settings: host, port and token.
            health: called from the server's thread, as is
            metrics: in the Prometheus text format.
            setting: what an error calls the port.

        Raises:
            SettingsError: the token cannot be read or is too short.
        """
        self._settings = settings
        self._setting = setting
        self._token = settings.http_secret()
        self._health = health
        self._metrics = metrics
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._loop = asyncio.new_event_loop()
        self._close = asyncio.Event()
        self._thread: threading.Thread | None = None
        self.port: int | None = None
        """The port served, once started."""

    def start(self) -> None:
        """Serve from now on.

        Raises:
            WorkerError: the address cannot be had.
        """
        where = f"{self._settings.http_host}:{self._settings.http_port}"
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S) or self._failure is not None:
            raise WorkerError(
                f"cannot listen on {where}: {self._failure or 'no answer'}; choose another"
                f" {self._setting} or worker.http_host"
            ) from self._failure
        log.info("health and metrics are served", host=self._settings.http_host, port=self.port)

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._close.set)
            thread.join(START_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._guard], client_max_size=_BODY_BYTES)
        app.router.add_get("/health", self._show_health)
        app.router.add_get("/metrics", self._show_metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._settings.http_host, self._settings.http_port)
            await site.start()
            self.port = runner.addresses[0][1]
            self._started.set()
            await self._close.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if self._token is not None:
            given = request.headers.get("Authorization", "")
            # What is no UTF-8 in a header comes as surrogates.
            found = given.encode(errors="surrogateescape")
            if not hmac.compare_digest(found, f"Bearer {self._token}".encode()):
                headers = {"WWW-Authenticate": "Bearer"}
                return web.Response(status=401, text="a token is needed\n", headers=headers)
        response = await handler(request)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _show_health(self, _request: web.Request) -> web.Response:
        found = self._health()
        return web.Response(
            status=200 if found.ready else 503, body=found.body, content_type="application/json"
        )

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": _METRICS_TYPE})
