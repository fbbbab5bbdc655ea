"""Records of the topic on which gates are asked what they can run, and answer. Nobody needs them later.

candidate/<entity>/<digest>           a publication, as it would stand on the control topic: could you run it?
answer/<entity>/<digest>/<client id>  JSON, so that whoever looks at the topic reads it, and later releases may add
"""

from __future__ import annotations

from typing import Final

import msgspec

from placet.schemas.errors import DecodeError

__all__ = ["GateAnswer", "answer_key", "candidate_key", "candidate_of", "decode_answer", "encode_answer"]

_CANDIDATE: Final = "candidate"
_ANSWER: Final = "answer"


class GateAnswer(msgspec.Struct, frozen=True):
    """What a gate says of a candidate.

    Attributes:
        gate: its client id, by which the group lists it.
        entity: the candidate's entity type.
        digest: of the candidate, as hex.
        why_not: why it could not run it; "" where it could.
        release: of Placet.
        ladder: the latest decision ladder that it runs.
    """

    gate: str
    entity: str
    digest: str
    why_not: str = ""
    release: str = ""
    ladder: int = 0


def candidate_key(entity: str, digest: bytes) -> bytes:
    """Return the key of a candidate."""
    return f"{_CANDIDATE}/{entity}/{digest.hex()}".encode()


def candidate_of(key: bytes | None) -> tuple[str, str] | None:
    """Return entity type and digest (hex) of a candidate by its key; None for the key of anything else."""
    kind, _, rest = (key or b"").decode("utf-8", "replace").partition("/")
    entity, _, digest = rest.rpartition("/")
    return (entity, digest) if kind == _CANDIDATE and entity else None


def answer_key(answer: GateAnswer) -> bytes:
    """Return the key of an answer."""
    return f"{_ANSWER}/{answer.entity}/{answer.digest}/{answer.gate}".encode()


def encode_answer(answer: GateAnswer) -> bytes:
    """Return an answer's bytes."""
    return msgspec.json.encode(answer)


def decode_answer(key: bytes | None, value: bytes | None) -> GateAnswer | None:
    """Return an answer; None for any other record.

    Raises:
        DecodeError: it has the key of an answer, and is none.
    """
    if not (key or b"").startswith(f"{_ANSWER}/".encode()):
        return None
    try:
        return msgspec.json.decode(value or b"", type=GateAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"no answer of a gate: {error}") from error
