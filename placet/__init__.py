"""AI proposes, Placet decides: a commit gate for AI-driven state on Kafka.

Public names are loaded at their first use: `import placet` costs almost nothing, and the shell's `--help` loads no
Kafka client. `placet.testing` has the driver that tests a definition without Kafka.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from placet.client import (
        AsyncChangeBatch,
        AsyncClient,
        AsyncProposal,
        ChangeBatch,
        Client,
        DecisionTimeout,
        NoOccasion,
        NotConnected,
        NotDelivered,
        Proposal,
        ReadTimeout,
        Snapshot,
    )
    from placet.definitions import load_definition, parse_definition
    from placet.processors.expressions.scope import Scope
    from placet.schemas.decision import Decision, Outcome, Reason, Retry
    from placet.schemas.definition.model import Definition
    from placet.schemas.errors import DefinitionError, InvalidPayload, PlacetError, SettingsError

__all__ = [
    "AsyncChangeBatch",
    "AsyncClient",
    "AsyncProposal",
    "ChangeBatch",
    "Client",
    "Decision",
    "DecisionTimeout",
    "Definition",
    "DefinitionError",
    "InvalidPayload",
    "NoOccasion",
    "NotConnected",
    "NotDelivered",
    "Outcome",
    "PlacetError",
    "Proposal",
    "ReadTimeout",
    "Reason",
    "Retry",
    "Scope",
    "SettingsError",
    "Snapshot",
    "load_definition",
    "parse_definition",
]

_ELSEWHERE = {
    "Decision": "schemas.decision",
    "Definition": "schemas.definition.model",
    "DefinitionError": "schemas.errors",
    "InvalidPayload": "schemas.errors",
    "Outcome": "schemas.decision",
    "PlacetError": "schemas.errors",
    "Reason": "schemas.decision",
    "Retry": "schemas.decision",
    "Scope": "processors.expressions.scope",
    "SettingsError": "schemas.errors",
    "load_definition": "definitions",
    "parse_definition": "definitions",
}
"""The modules of the names that are not in placet.client."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'placet' has no attribute {name!r}")
    home = f"placet.{_ELSEWHERE.get(name, 'client')}"
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return __all__
