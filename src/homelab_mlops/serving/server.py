"""Runs the service: it listens at once, loads the model meanwhile, and ends without dropping a request."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from types import FrameType

import uvicorn
import uvloop
from prometheus_client import start_http_server

from homelab_mlops.console import say
from homelab_mlops.errors import HomelabError, TrackingError
from homelab_mlops.model.promotion import Named
from homelab_mlops.serving.app import Login, Service
from homelab_mlops.serving.connections import limited
from homelab_mlops.serving.metrics import Metrics
from homelab_mlops.serving.model import Model
from homelab_mlops.serving.request_log import RequestLog

LOOPBACK = "127.0.0.1"
# Longer than proxies keep idle connections, so that no proxy sends a request into a closed one.
KEEP_ALIVE_SECONDS = 120
# The wait after the signal to end: until every router has heard of it.
DRAIN_SECONDS = 8.0
PAUSES = (1.0, 2.0, 4.0, 8.0)
# Each event of a connection may wait so long for the thread that scores large bodies.
SWITCH_SECONDS = 0.0005


def serve(
    name: str,
    version: str,
    host: str | None,
    port: int,
    metrics_port: int | None,
    model: Model | None = None,
    sha256: str = "",
) -> None:
    """Serves until SIGTERM or SIGINT: the given ``model``, or the version of the registry, whose files have ``sha256``.

    With ``SERVING_USERNAME`` and ``SERVING_PASSWORD`` in the environment it asks for that login; without, it listens on
    loopback only.

    Raises:
        TrackingError: the version cannot be served, and waiting does not help.
    """
    login = _login()
    metrics = Metrics(name, version)
    log = RequestLog.of_environment(name, version, metrics.unlogged.inc)
    service = Service(name, version, login, log, metrics)
    config = uvicorn.Config(
        service,
        host=host or ("0.0.0.0" if login else LOOPBACK),  # noqa: S104 - behind a login
        port=port,
        loop="none",
        http=limited(),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
    server = _Server(config, service)
    if metrics_port is not None:
        start_http_server(metrics_port, addr=config.host)
    if model is not None:
        service.model = model
        metrics.loaded.set(1)
        say(
            f"serving: {name}, {version}, has answered its input example: http://{config.host}:{port}/ (Ctrl-C ends it)"
        )
    elif service.empty:
        service.waiting_for = f"git names no version of {name} yet; `homelab promote {name} VERSION` does, and a push"
        say(f"serving: {service.waiting_for}")
    else:
        threading.Thread(target=_load, args=(server, service, metrics, sha256), name="load", daemon=True).start()
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())
    if log is not None:
        log.close()
    if server.failure is not None:
        raise server.failure


def _login() -> Login | None:
    username, password = os.environ.get("SERVING_USERNAME", ""), os.environ.get("SERVING_PASSWORD", "")
    if bool(username) != bool(password):
        raise HomelabError("SERVING_USERNAME and SERVING_PASSWORD belong together", fix="set both, or none")
    return Login(username, password) if password else None


def _load(server: _Server, service: Service, metrics: Metrics, sha256: str) -> None:
    named = Named(service.version, sha256)
    attempt = 0
    while not server.should_exit:
        try:
            from homelab_mlops.clients.mlflow import ModelRegistry
            from homelab_mlops.serving.source import load

            with ModelRegistry.of_environment() as registry:
                model = load(registry, service.name, named)
        except TrackingError as error:
            if not error.transient:
                server.fail(error)
                return
            service.waiting_for = str(error.what)
            say(f"serving: not ready: {service.name} version {service.version}: {error.what} ({error.where})")
            time.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1
        except Exception as error:  # without this message the pod would wait for ever after a bug
            server.fail(HomelabError(f"{service.name} version {service.version}: {type(error).__name__}: {error}"))
            return
        else:
            service.model = model
            metrics.loaded.set(1)
            say(f"serving: {service.name} version {service.version} has answered its input example, and is ready")
            return


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.failure: HomelabError | None = None
        self._service = service
        self._leave_at: float | None = None

    def fail(self, error: HomelabError) -> None:
        """Ends the server with this error."""
        self.failure = error
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The first signal begins to drain: connections are closed after their next answer; the second ends at once."""
        if self._leave_at is not None or self._service.model is None:
            self.should_exit = True
        self._service.draining = True
        self._leave_at = time.monotonic() + DRAIN_SECONDS

    async def on_tick(self, counter: int) -> bool:
        done = await super().on_tick(counter)
        return done or (self._leave_at is not None and time.monotonic() > self._leave_at)
