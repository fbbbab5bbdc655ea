"""Options that several commands share, and how they become settings: command line over environment over defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from placet.definitions import load_definition
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.settings import Settings, load_settings, misspelt

__all__ = ["App", "BootstrapServers", "Definitions", "definitions_of", "said_elsewhere", "settings_from"]


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


def _to_stderr(sentence: str) -> None:
    typer.echo(f"placet: {sentence}", err=True)


def said_elsewhere(_sentence: str) -> None:
    """Leave a warning to a gate's log, or to the doctor's table."""


def settings_from(
    bootstrap_servers: str | None = None, *, warn: Callable[[str], None] = _to_stderr, **given: Any
) -> Settings:
    """Return the settings, with the command line's values; None and empty mean that it gave no value.

    Args:
        bootstrap_servers: the command line's.
        warn: is told of each variable that looks like a misspelt setting.
        given: the rest of the command line's, by field.

    Raises:
        SettingsError: see `load_settings`.
    """
    overrides = {name: value for name, value in given.items() if value is not None and value != []}
    if bootstrap_servers is not None:
        overrides["kafka"] = {"bootstrap_servers": bootstrap_servers}
    settings = load_settings(overrides)
    for sentence in misspelt(os.environ):
        warn(sentence)
    return settings


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
