"""The HTTP side port of a gate: `/metrics` for Prometheus, `/healthz` and `/readyz` for Kubernetes.

/metrics  200                 Prometheus' text format, or OpenMetrics where the client asks for it
/healthz  200 or 503          whether the loop came around lately: restart the process when it did not
/readyz   200 or 503          whether every task of this gate is running, and it can run something of what is in force
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from placet.schemas.errors import SettingsError
from placet.streams.runtime import Runtime
from placet.streams.telemetry.log import get_logger

__all__ = ["ALIVE_WITHIN_S", "Endpoint"]

ALIVE_WITHIN_S: Final = 60.0
"""The loop waits for a record for 200 ms and commits within seconds: after a minute it hangs."""


class _Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes


class Shown(Protocol):
    """What the endpoint shows: `placet.streams.telemetry.metrics.Metrics`."""

    registry: CollectorRegistry
    phases: Mapping[str, str]
    unrunnable: Mapping[str, str]
    waits: Mapping[str, tuple[str, int, str]]

    def loop_age_s(self) -> float:
        """Seconds since the loop came around."""

    def ready(self) -> bool:
        """Whether every task of this gate runs, and it could run some."""


class _WithoutCreated(Collector):
    """A registry without the `_created` twin of each counter: nothing asks for it, and it doubles a scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class _Server(ThreadingHTTPServer):
    """Answers in threads that nobody waits for, on IPv6 where the address is one (`::` is both)."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, port), handler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the signature is socketserver's
        """Say nothing of a client that went away before its answer, one line of a bug; never a bare traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            get_logger("metrics").exception("no answer, for a bug", client=str(client_address))


class Endpoint:
    """Serves one gate's metrics and health, from a daemon thread.

    Args:
        runtime: starts the thread.
        metrics: what is shown.
        host: the address to listen on.
        port: 0 for a free one.
        alive_within_s: how lately the loop must have come around.

    Raises:
        SettingsError: the port is taken, or the address is not this machine's.
    """

    def __init__(
        self, runtime: Runtime, metrics: Shown, host: str, port: int, alive_within_s: float = ALIVE_WITHIN_S
    ) -> None:
        def answer(path: str, accept: str) -> _Answer:
            return _answer(metrics, alive_within_s, path, accept)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answered = answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
                self.send_response(answered.status)
                self.send_header("Content-Type", answered.content_type)
                self.send_header("Content-Length", str(len(answered.body)))
                self.end_headers()
                self.wfile.write(answered.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """A probe each second is no news."""

        try:
            self._server = _Server(host, port, Handler)
        except OSError as error:
            raise SettingsError(
                f"The metrics endpoint can't listen on {host}:{port} ({error.strerror}): "
                "set PLACET_METRICS_PORT to a free port, or 0 for none."
            ) from error
        self.port: int = self._server.server_address[1]
        runtime.spawn("metrics", self._server.serve_forever)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _answer(metrics: Shown, alive_within_s: float, path: str, accept: str) -> _Answer:
    age_s = metrics.loop_age_s()
    match path:
        case "/metrics":
            encode, content_type = choose_encoder(accept)
            return _Answer(HTTPStatus.OK, content_type, encode(_WithoutCreated(metrics.registry)))
        case "/healthz":
            return _health(age_s <= alive_within_s, {"loop_age_s": age_s})
        case "/readyz":
            unrunnable, waits = dict(metrics.unrunnable), _spelled(metrics.waits)
            return _health(metrics.ready(), {"tasks": dict(metrics.phases), "unrunnable": unrunnable, "waits": waits})
    return _Answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /healthz and /readyz are here\n")


def _spelled(waits: Mapping[str, tuple[str, int, str]]) -> dict[str, dict[str, str]]:
    return {
        task: {"schema": schema, "since": datetime.fromtimestamp(ms // 1000, UTC).isoformat(), "why": why}
        for task, (schema, ms, why) in waits.items()
    }


def _health(fine: bool, details: dict[str, object]) -> _Answer:  # noqa: FBT001 - the answer itself
    status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
    return _Answer(status, "application/json", json.dumps({"ok": fine, **details}).encode() + b"\n")
