"""One request that no client sends for somebody else: a heartbeat by which a member of a KIP-848 group leaves."""

from __future__ import annotations

import socket
from struct import pack, unpack, unpack_from
from typing import Final

__all__ = ["leave_for"]

_API_KEY: Final = 68  # ConsumerGroupHeartbeat
_LEAVES: Final = -1
_NO_TAGS: Final = b"\0"
_NULL: Final = b"\0"
_TIMEOUT_S: Final = 20.0


def leave_for(bootstrap_servers: str, group: str, member_id: str) -> int:
    """Say to a lone broker that a member leaves; return the error's code.

    Args:
        bootstrap_servers: `host:port` of the broker.
        group: the group's name.
        member_id: whose place is given up.
    """
    host, port = bootstrap_servers.split(":")
    header = pack(">hhih", _API_KEY, 0, 1, -1) + _NO_TAGS
    body = (
        _compact(group) + _compact(member_id) + pack(">i", _LEAVES) + _NULL * 2  # instance, rack
        + pack(">i", -1) + _NULL * 3 + _NO_TAGS  # rebalance timeout; topics, assignor, partitions
    )  # fmt: skip
    with socket.create_connection((host, int(port)), _TIMEOUT_S) as broker, broker.makefile("rb") as answers:
        broker.sendall(pack(">i", len(header + body)) + header + body)
        (length,) = unpack(">i", answers.read(4))
        answer = answers.read(length)
    (code,) = unpack_from(">h", answer, 9)  # behind correlation id, tags, and throttle time
    return int(code)


def _compact(text: str) -> bytes:
    """Write a string of less than 127 bytes as the protocol's flexible versions do."""
    data = text.encode()
    assert len(data) < 127
    return bytes([len(data) + 1]) + data
