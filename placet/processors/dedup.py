"""Dedup: which occasion an input stands for (its key and payload digest, rung 2), and how long that is remembered.

The key names the occasion, never the base version: after a lost reply and a second read the same occasion would
otherwise be applied twice. The digest covers the name and the canonical payload; times, versions, traces, rationale
and model stay out of it, so that a retry is recognised however it was packed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, final

import msgspec

from placet.processors.machine import Dedup, InputRule
from placet.schemas.memory import Memory
from placet.schemas.messages import Kind, Message

__all__ = [
    "CLOCK_AHEAD_MAX_MS",
    "DEDUP_KEY_BYTES_MAX",
    "CheckedInput",
    "identified",
    "memory_is_live",
    "memory_kept_ms",
]

CLOCK_AHEAD_MAX_MS: Final = 60_000
"""How far `issued_at` and `event_time` may lie beyond the log's time before the input is refused."""

DEDUP_KEY_BYTES_MAX: Final = 512
"""Longest dedup key: it is stored once per accepted input for the whole horizon."""

# Looked up once: in Python 3.11 naming a member of an enum is slow.
_KEY: Final = Dedup.KEY
_FIELDS: Final = Dedup.FIELDS
_SIGNAL: Final = Kind.SIGNAL

_pack: Final = msgspec.msgpack.Encoder().encode
_json: Final = msgspec.json.Encoder().encode


@final
class CheckedInput:
    """An input that may be decided: its name is known, its payload fits, and it names its occasion.

    Args:
        message: the input.
        rule: its name's.
        dedup_key: the occasion; "" where the entity's state itself remembers.
        payload_digest: 16 bytes over name and canonical payload.
    """

    def __init__(self, message: Message, rule: InputRule, dedup_key: str, payload_digest: bytes) -> None:
        self.message = message
        self.rule = rule
        self.dedup_key = dedup_key
        self.payload_digest = payload_digest


def identified(rule: InputRule, message: Message) -> CheckedInput | str:
    """Return the input with its occasion, or a sentence that says why it names none."""
    digest = blake2b(_pack((rule.name, rule.canonical(message.payload))), digest_size=16).digest()
    key = _key_of(rule, message)
    if key is None:
        return "it names no occasion: give dedup_key, or caused_by, or let the definition compute it with `dedup`"
    if len(key) > DEDUP_KEY_BYTES_MAX // 4 and len(key.encode()) > DEDUP_KEY_BYTES_MAX:
        return f"its dedup key is longer than {DEDUP_KEY_BYTES_MAX} bytes"
    return CheckedInput(message, rule, key, digest)


def memory_kept_ms(horizon_ms: int) -> int:
    """For how long of log time a memory counts: the horizon, and what a producer's clock may be ahead."""
    return horizon_ms + CLOCK_AHEAD_MAX_MS


def memory_is_live(memory: Memory, log_time: int, horizon_ms: int) -> bool:
    """Tell whether a memory still counts: judged on log time, so that deleting it late changes nothing."""
    return log_time - memory.log_time <= memory_kept_ms(horizon_ms)


def _key_of(rule: InputRule, message: Message) -> str | None:
    if rule.dedup is _KEY:
        if message.dedup_key:
            return f"key:{message.dedup_key}"
        if message.kind is _SIGNAL:
            return f"key:{message.input_id}"
        return f"cause:{message.caused_by}/{rule.name}" if message.caused_by else None
    if rule.dedup is _FIELDS:
        values = [message.payload[field] for field in rule.dedup_fields]
        return f"fields:{rule.name}:{_json(values).decode()}"
    return ""  # once, newest: the state's `applied` remembers until it is forgotten
