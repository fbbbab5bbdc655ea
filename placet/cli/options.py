"""Options that several commands share, and how they become settings: command line over environment over defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from placet.definitions import load_definition
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.settings import Settings, load_settings

__all__ = ["App", "BootstrapServers", "Definitions", "definitions_of", "settings_from"]


Definitions = Annotated[
    list[Path] | None,
    typer.Option(
        "--definition", "-d", metavar="FILE", help="A definition file; may be repeated. Or PLACET_DEFINITIONS."
    ),
]
App = Annotated[str | None, typer.Option(help="Prefix of topics, group and transactions. Or PLACET_APP.  [placet]")]
BootstrapServers = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Kafka. Or KAFKA_BOOTSTRAP_SERVERS.  [localhost:9092]"),
]


def settings_from(bootstrap_servers: str | None = None, **given: Any) -> Settings:
    """Return the settings, with the command line's values; None and empty mean that it gave no value.

    Raises:
        SettingsError: see `load_settings`.
    """
    overrides = {name: value for name, value in given.items() if value is not None and value != []}
    if bootstrap_servers is not None:
        overrides["kafka"] = {"bootstrap_servers": bootstrap_servers}
    return load_settings(overrides)


def definitions_of(settings: Settings) -> Sequence[Definition]:
    """Load the definitions that the settings name.

    Raises:
        DefinitionError: one of them is wrong.
        SettingsError: there is none, or two are for one entity type.
    """
    loaded: dict[str, Definition] = {}
    for path in settings.definitions:
        definition = load_definition(path)
        if definition.entity in loaded:
            raise SettingsError(f"{path} is a second definition of `{definition.entity}`: give one for each entity.")
        loaded[definition.entity] = definition
    if not loaded:
        raise SettingsError("No definition is given: use --definition FILE or PLACET_DEFINITIONS.")
    return tuple(loaded.values())
