"""A schema registry in this process, as Confluent's API has it, which can stop answering."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["LoopbackRegistry", "loopback_registry"]


class LoopbackRegistry:
    """What is registered, and whether it answers.

    Attributes:
        schemas: by subject, in the order of registering; an id counts schemas of all subjects.
        out: answers 503 to everything.
        broken: ids for which it answers 500, always.
        asked: ids that were asked for, in order.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.schemas: list[tuple[str, str]] = []
        self.out = False
        self.broken: set[int] = set()
        self.asked: list[int] = []

    def register(self, subject: str, schema: str) -> int:
        """Register a schema, or find it; return its id."""
        if (subject, schema) not in self.schemas:
            self.schemas.append((subject, schema))
        return self.schemas.index((subject, schema)) + 1

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request of the API."""
        schema = str(body.get("schema", ""))
        match method, path:
            case _ if self.out:
                return 503, {"error_code": 50301, "message": "out of order"}
            case "GET", ["subjects"]:
                return 200, sorted({subject for subject, _ in self.schemas})
            case "GET", ["schemas", "ids", number]:
                self.asked.append(int(number))
                if int(number) in self.broken:
                    return 500, {"error_code": 50001, "message": "broken"}
                if int(number) <= len(self.schemas):
                    return 200, {"schema": self.schemas[int(number) - 1][1]}
            case "POST", ["subjects", subject, "versions"]:
                return 200, {"id": self.register(subject, schema)}
            case "POST", ["subjects", subject]:
                if (subject, schema) in self.schemas:
                    number = self.register(subject, schema)
                    return 200, {"subject": subject, "id": number, "version": 1, "schema": schema}
            case "PUT", ["config", _]:
                return 200, body
        return 404, {"error_code": 40403, "message": "not found"}


class _Handler(BaseHTTPRequestHandler):
    def _serve(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = urlsplit(self.path).path.strip("/").split("/")
        registry = cast("_Server", self.server).registry
        code, said = registry.answer(self.command, path, body)
        answer = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    registry: LoopbackRegistry


@contextmanager
def loopback_registry() -> Iterator[LoopbackRegistry]:
    """Run a registry; it is gone afterwards."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.registry = LoopbackRegistry(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.registry
        finally:
            server.shutdown()
            thread.join()
