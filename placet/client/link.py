"""One entity type as a client uses it: its topics, and the rules that it goes by.

    control records ── Rulebook ── the version in force ──► definition and codec of the client, from the next call on
                                                      └──► not usable here: the client keeps what it has, and says so

A client's own definition counts until one is in force: a record in a schema that nobody has published can't be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from placet.processors.ladder import LADDER
from placet.processors.machine import compile_machine
from placet.schemas.codec.codec import Codec
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError
from placet.schemas.in_force import Usable
from placet.streams.host import LocalHost
from placet.streams.kafka.schema_registry import wire_of
from placet.streams.rules.rulebook import Rulebook
from placet.streams.settings import Settings
from placet.streams.topology import EntityTopics

__all__ = ["Link", "follow", "link_of"]


@dataclass(frozen=True)
class Link:
    """One entity type as it stands on the cluster.

    Attributes:
        definition: the rules in force, or the caller's own where none are.
        codec: makes and reads records by it; reads what every other version wrote.
        beyond: a sentence that says why the rules in force can't be used here; "" where they are `definition`.
        ahead: a sentence for a caller whose own definition is a later one than that; "" for others.
    """

    definition: Definition
    codec: Codec
    topics: EntityTopics
    partitions: int
    rulebook: Rulebook
    beyond: str = ""
    ahead: str = ""


def link_of(
    settings: Settings, wanted: Definition | str, topics: EntityTopics, partitions: int, rulebook: Rulebook
) -> Link | None:
    """Return an entity type's link; None where nobody has published or brought a definition.

    Raises:
        SettingsError: the registry does not have its schemas.
        RegistryUnreachable: nobody tells.
    """
    definition = _definition(wanted, rulebook)
    if definition is None:
        return None
    codec = _codec(settings, definition, rulebook)
    beyond = _beyond(definition, rulebook)
    return Link(definition, codec, topics, partitions, rulebook, beyond, _ahead(wanted, definition))


def follow(link: Link, settings: Settings, wanted: Definition | str) -> Link:
    """Return the link by what the rulebook holds now: the same object where nothing has changed.

    Raises:
        SettingsError, RegistryUnreachable: as `link_of`; the link as it is can be used further on.
    """
    definition = _definition(wanted, link.rulebook) or link.definition
    codec = link.codec
    if definition.digest == link.definition.digest:
        definition = link.definition
    else:
        codec = _codec(settings, definition, link.rulebook)
    beyond, ahead = _beyond(definition, link.rulebook), _ahead(wanted, definition)
    if (definition, beyond, ahead) == (link.definition, link.beyond, link.ahead):
        return link
    return replace(link, definition=definition, codec=codec, beyond=beyond, ahead=ahead)


def _definition(wanted: Definition | str, rulebook: Rulebook) -> Definition | None:
    newest = _newest(wanted if isinstance(wanted, str) else wanted.entity, rulebook)
    if newest is not None:
        return newest.definition
    return wanted if isinstance(wanted, Definition) else None


def _newest(entity: str, rulebook: Rulebook) -> Usable | None:
    """Return the version in force. What does not compile anywhere, of an earlier release, is passed over by gates."""
    usable = sorted(rulebook.in_force(entity).usable, key=lambda found: found.published.version, reverse=True)
    return next((found for found in usable if _counts(found)), None)


def _counts(found: Usable) -> bool:
    if found.published.base or found.definition.sources:
        return True
    try:
        compile_machine(found.definition)
    except DefinitionError:
        return False
    return True


def _beyond(definition: Definition, rulebook: Rulebook) -> str:
    entity = definition.entity
    why = rulebook.in_force(entity).beyond
    entry = rulebook.published.get((entity, definition.digest))
    if not why and entry is not None and entry.ladder > LADDER:
        why = f"version {entry.version} is decided by ladder {entry.ladder}, and this release has ladder {LADDER}"
    return f"the rules in force of `{entity}` can't be used here: {_line(why)}" if why else ""


def _line(why: str) -> str:
    return why.partition("\n")[0]


def _ahead(wanted: Definition | str, definition: Definition) -> str:
    if isinstance(wanted, str) or wanted.version <= definition.version:
        return ""
    return (
        f"Version {definition.version} of `{definition.entity}` is in force, and this client was given version "
        f"{wanted.version}: once that one is published, it may fit, so try again later"
    )


def _codec(settings: Settings, definition: Definition, rulebook: Rulebook) -> Codec:
    registry = settings.registry
    wire = wire_of(LocalHost(), registry.url, settings.registry_options(), settings.app, definition.entity)
    codec = Codec(definition, wire, settings.record_bytes_max)
    rulebook.teach({definition.entity: codec})
    return codec
