"""`placet run` and `placet dev`: a gate in this process, until it is told to stop."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from placet.cli.options import App, BootstrapServers, Definitions, definitions_of, said_elsewhere, settings_from
from placet.devbroker.broker import Broker
from placet.devbroker.jars import OnProgress
from placet.schemas.definition.model import Definition
from placet.schemas.errors import PlacetError, SettingsError
from placet.streams import main as gate
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.settings import Settings, misspelt
from placet.streams.telemetry.log import configure_logs, get_logger, log_thread_errors
from placet.streams.topics.configs import required_topics
from placet.streams.topics.plan import apply
from placet.streams.topology import entity_topics

__all__ = ["dev_app", "run_app"]

run_app = typer.Typer(add_completion=False, rich_markup_mode=None)
dev_app = typer.Typer(add_completion=False, rich_markup_mode=None)


@run_app.command()
def run(
    definition: Definitions = None,
    app: App = None,
    instance: Annotated[
        str | None,
        typer.Option(help="This gate's own name. Or PLACET_INSTANCE.  [the host's, and six random characters]"),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of the local stores, a cache. Or PLACET_STATE_DIR.  [~/.local/state/…]")
    ] = None,
    static: Annotated[
        bool | None,
        typer.Option(
            "--static",
            help="Static membership, for a state dir that outlives the process; needs --instance. Or PLACET_STATIC.",
        ),
    ] = None,
    force: Annotated[
        bool | None,
        typer.Option("--force", help="Publish the definition even if it is incompatible, see above. Or PLACET_FORCE."),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /metrics, /healthz, /readyz. Or PLACET_METRICS_PORT.  [none]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. Or PLACET_LOG_LEVEL.  [info]")
    ] = None,
) -> None:
    """Run a gate. SIGTERM and Ctrl-C end it after its current batch is committed.

    The gate refuses to start on wrong settings, topics or definitions. All settings can come from the environment. One
    is PLACET_KAFKA__OPTIONS: librdkafka's own options as JSON, such as {"security.protocol": "SSL"}. A variable with
    _FILE behind its name gives the file that holds the value.

    A gate decides by the version in force: the highest one that was published. If its own is higher, it publishes it
    before its first decision, and running gates change to it; if a higher one is in force already, the gate runs that
    one. It publishes only what is compatible with the version in force (see `placet definitions diff`) and what every
    live gate says it can run; otherwise the gate ends and says what would happen, or which gates lack what. --force
    publishes it all the same. Then gates that can't run it leave the entity type to others, entities in a removed
    status stay in it, and inputs about them are refused; retries across a change of `dedup`, or to a longer horizon,
    are applied again; inputs of removed names are refused. A version that could not read existing states is refused
    even with --force. Once published, it starts without --force.

    Exit code: 0 told to stop, 3 wrong settings, topics or definitions, 4 no broker answered, 5 the gate stopped
    itself, 70 a call hung.

    Example:  placet run --definition flight.yaml --app prod --instance gate-0 --metrics-port 9100
    """
    settings = settings_from(
        bootstrap_servers,
        warn=said_elsewhere,
        definitions=definition,
        app=app,
        instance=instance,
        state_dir=state_dir,
        static=static,
        force=force,
        metrics_port=metrics_port,
        log_level=log_level,
    )
    raise typer.Exit(_run(settings, definitions_of(settings)))


@dev_app.command()
def dev(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Definition files.", show_default=False)],
    app: App = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the broker; 0: a free one.")] = 0,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each entity type's topics.")] = 4,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics, /healthz, /readyz.  [none]")] = None,
) -> None:
    """Try definitions: start a Kafka, make the topics, run a gate. Ctrl-C ends all of it and removes all data.

    The first time it downloads Kafka (46 MB). For a Kafka that keeps its data see `placet broker start`.

    Exit code: as `placet run`.

    Example:  placet dev flight.yaml
    """
    overrides: dict[str, Any] = {"definitions": files, "app": app, "metrics_port": metrics_port}
    overrides |= {"metrics_host": "127.0.0.1", "warn": said_elsewhere}
    definitions = definitions_of(settings_from(**overrides))  # what is wrong with them is said before a broker starts
    with tempfile.TemporaryDirectory(prefix="placet-dev-") as folder, closing(Broker(port=port)) as broker:
        broker.start(_progress())
        settings = settings_from(broker.bootstrap_servers, **overrides, state_dir=Path(folder))
        with Admin(LocalHost(), settings.librdkafka()) as admin:
            apply(admin, required_topics(settings.app, definitions, partitions, settings.record_bytes_max))
        typer.echo(_how_to_try(settings, definitions))
        try:
            raise typer.Exit(_run(settings, definitions))
        except PlacetError:
            typer.echo("The gate ends, for the reason below; its Kafka ends with it.", err=True)
            raise


def _run(settings: Settings, definitions: Sequence[Definition]) -> int:
    if sys.flags.optimize:
        raise SettingsError("Python runs with -O, without assertions: the gate needs them. Unset PYTHONOPTIMIZE.")
    configure_logs(settings.log_level, app=settings.app, instance=settings.instance)
    log_thread_errors()
    for sentence in misspelt(os.environ):
        get_logger("settings").warning("misspelt variable", reason=sentence)
    return gate.run(settings, definitions)


def _progress() -> OnProgress:
    """Say each step of the broker's start once: the first time it fetches and prepares for half a minute."""
    said: list[str] = []

    def say(what: str, _done: int, _of: int) -> None:
        if what not in said:
            said.append(what)
            typer.echo(f"{what} ...", err=True)

    return say


def _how_to_try(settings: Settings, definitions: Sequence[Definition]) -> str:
    servers = settings.kafka.bootstrap_servers
    lines = [f"Kafka runs at {servers}. In another terminal:", f"  export KAFKA_BOOTSTRAP_SERVERS={servers}"]
    lines.append(f"  placet doctor --app {settings.app} " + " ".join(f"-d {file}" for file in settings.definitions))
    for definition in definitions:
        topics = entity_topics(settings.app, definition.entity)
        lines += [
            f"{definition.entity}: facts go to {topics.signals}, proposals to {topics.proposals};",
            f"  decisions come on {topics.decisions}, states on {topics.changelog}.",
        ]
    lines.append("By hand: placet signal --help, placet propose --help, placet explain --help.")
    return "\n".join([*lines, "Ctrl-C ends it."])
