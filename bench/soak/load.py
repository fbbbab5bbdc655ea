"""What comes in during a long run: each moment a fact for each partition, at every fifth a proposal too, by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Final

from placet.schemas.messages import Kind, Message, Value
from tests.integration.gates import DEFINITION
from tests.integration.outage import PARTITIONS, keys_of

__all__ = ["Load", "wider"]

ORDERS: Final = 40
"""Of each partition."""
PROPOSAL_EVERY: Final = 5


def wider(version: int) -> str:
    """Return the tests' definition with a field and a fact more, under another version."""
    return (
        DEFINITION.read_text()
        .replace("version: 1\n", f"version: {version}\n")
        .replace("  note: string | null\n", "  note: string | null\n  owner: string | null\n")
        .replace(
            "  closed:\n",
            "  owned:\n    payload: {owner: string}\n    from: [open, held]\n    copy: [owner]\n  closed:\n",
        )
    )


class Load:
    """Facts and proposals about orders, as a careless world sends them: repeats, stale proposals, nonsense.

    Args:
        seed: the same load again, but for the times.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._keys: Sequence[Sequence[str]] = [list(islice(keys_of(n), ORDERS)) for n in range(PARTITIONS)]
        self.widened = False
        """Whether facts come that only the wider rules know."""

    def messages(self, number: int, now_ms: int) -> Iterator[tuple[int, Message]]:
        """Give what comes at the moment with this number, with the partition of each."""
        for partition, keys in enumerate(self._keys):
            yield partition, self._fact(number, keys, now_ms)
            if (number + partition) % PROPOSAL_EVERY == 0:
                yield partition, self._proposal(number, keys, now_ms)

    def _fact(self, number: int, keys: Sequence[str], now_ms: int) -> Message:
        order, what = self._random.choice(keys), self._random.random()
        name: str = "added"
        payload: dict[str, Value] = {"amount": number % 9}
        signal_id = f"{order}-{number}"
        if number < len(keys):
            order, name, payload = keys[number], "opened", {"total": 5}
            signal_id = f"{order}-opened"
        elif self.widened and what < 0.1:
            name, payload = "owned", {"owner": f"owner-{number % 7}"}
        elif what < 0.2:
            name, payload = "seen", {}
        elif what < 0.3:
            name, payload = "temperature", {"value": number % 110}
        elif what < 0.35:
            signal_id = f"{order}-opened"
            name, payload = "opened", {"total": 5}
        return Message(Kind.SIGNAL, name, signal_id, order, payload, now_ms, now_ms)

    def _proposal(self, number: int, keys: Sequence[str], now_ms: int) -> Message:
        order, name = self._random.choice(keys), self._random.choice(("hold", "release", "annotate", "annotate"))
        occasion = number if self._random.random() < 0.8 else number // 100
        return Message(
            Kind.PROPOSAL, name, f"{order}-p-{number}", order, {} if name == "release" else {"note": f"n{number}"},
            now_ms, now_ms, dedup_key=f"{name}-{occasion}", base_version=self._random.randrange(1, 200),
        )  # fmt: skip
