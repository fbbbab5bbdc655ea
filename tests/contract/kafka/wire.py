"""A wire between clients and a real broker: one request's connection can break, and what it sent arrives later."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Final, Self

from placet.devbroker.settings import HOST, free_port

__all__ = ["API_KEYS", "Wire"]

API_KEYS: Final = {"Produce": 0, "AddPartitionsToTxn": 24, "AddOffsetsToTxn": 25, "EndTxn": 26, "TxnOffsetCommit": 28}
"""Requests by their name in Kafka's protocol."""
_LENGTH: Final = 4
_PIECE: Final = 65_536


class Wire:
    """Hands on what clients and the broker say to each other.

    Attributes:
        port: of 127.0.0.1, for clients.
        broker_port: where the broker is to listen.
    """

    def __init__(self) -> None:
        self.broker_port = free_port()
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        self._closing = Event()
        self._lock = Lock()
        self._armed: dict[int, float] = {}
        self._open: list[socket.socket] = []

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    def settings(self) -> dict[str, str]:
        """Lines of server.properties by which clients come through here."""
        return {"advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}"}

    def break_next(self, what: str, late_s: float) -> None:
        """Break the connection of the next request of a kind when it is sent; it reaches the broker so much later."""
        with self._lock:
            self._armed[API_KEYS[what]] = late_s

    def __enter__(self) -> Self:
        Thread(target=self._accept, name="wire", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for one in (self._listening, *self._open):
            _close(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                broker = socket.create_connection((HOST, self.broker_port))
                self._open += [client, broker]
                for work in (self._requests, self._answers):
                    Thread(target=work, args=(client, broker), name="wire", daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while frame := _frame(client):
                with self._lock:
                    late_s = self._armed.pop(int.from_bytes(frame[_LENGTH : _LENGTH + 2], "big"), None)
                if late_s is not None:
                    _close(client)
                    self._closing.wait(late_s)  # the broker's side stays open
                broker.sendall(frame)
                if late_s is not None:
                    return
        _close(broker)

    def _answers(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while piece := broker.recv(_PIECE):
                with suppress(OSError):
                    client.sendall(piece)
        _close(client)


def _frame(client: socket.socket) -> bytes:
    """Read one request, its length before it; nothing at the end."""
    head = _exactly(client, _LENGTH)
    return head and head + _exactly(client, int.from_bytes(head, "big"))


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := client.recv(size - len(data))):
        data += piece
    return data if len(data) == size else b""


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
