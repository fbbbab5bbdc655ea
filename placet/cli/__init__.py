"""The command `placet`: a table of sub-commands, each loaded when it is called, and one place for errors.

Loading librdkafka, RocksDB and CEL for `--help` or for a typo would cost a second. So the table holds names and
one-line helps; the module of a command is imported when the command is used.
"""

from __future__ import annotations

import faulthandler
import sys
import traceback
from importlib import import_module
from types import TracebackType
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from placet.cli.exit_codes import ExitCode, exit_code_of
from placet.schemas.errors import PlacetError

__all__ = ["COMMANDS", "app", "main"]


class _Command(NamedTuple):
    """Where a sub-command lives: a module with a Typer application, and what `--help` says about it."""

    module: str
    application: str
    help: str


COMMANDS: dict[str, _Command] = {
    "run": _Command("placet.cli.run", "run_app", "Run a gate."),
    "dev": _Command("placet.cli.run", "dev_app", "Try a definition: start a temporary Kafka, topics and a gate."),
    "signal": _Command("placet.cli.signal", "app", "Report a fact."),
    "propose": _Command("placet.cli.propose", "app", "Propose a change, as an agent would."),
    "explain": _Command("placet.cli.explain", "app", "Explain the decision on an input."),
    "state": _Command("placet.cli.state", "app", "Show the state of an entity, now or as it was."),
    "history": _Command("placet.cli.state", "history_app", "Show all versions of an entity."),
    "timers": _Command("placet.cli.timers", "app", "List the timers that wait, and those that are overdue."),
    "decisions": _Command("placet.cli.decisions", "app", "Show the gate's decisions, and follow them."),
    "topics": _Command("placet.cli.topics", "app", "Plan and apply the topics that an app needs."),
    "top": _Command("placet.cli.top.command", "app", "Watch the gates: throughput, outcomes, lag, latency, restores."),
    "doctor": _Command("placet.cli.doctor", "app", "Check brokers, topics, timeouts, registry, state and clock."),
    "verify": _Command("placet.cli.verify", "app", "Decide the whole log again, and show the differences."),
    "definitions": _Command("placet.cli.rules", "app", "Check, show, draw, compare and publish definitions."),
    "schemas": _Command("placet.cli.schemas", "app", "Export, check and register the Avro schemas of definitions."),
    "broker": _Command("placet.cli.broker", "app", "Run a real Kafka on this machine, without Docker or Java."),
}


class _LazyGroup(TyperGroup):
    """The group of `COMMANDS`: names and helps at once, the rest when a command is resolved."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=command.help), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            found = COMMANDS[name]
            return name, typer.main.get_command(getattr(import_module(found.module), found.application)), rest
        return name, stub, rest


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(asked: bool) -> None:
    if asked:
        from placet.streams.telemetry.build import installed_version, kind_of_build  # noqa: PLC0415 - only here

        typer.echo(f"placet {installed_version()} ({kind_of_build()})")
        raise typer.Exit


@app.callback()
def placet(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version, and whether it is compiled."
        ),
    ] = False,
) -> None:
    """AI proposes, Placet decides: a commit gate for AI-driven state on Kafka.

    Settings come from the command line, else from variables PLACET_…, else from the defaults. Exit codes: 0 done, 1 a
    check failed, a difference was found, or an input was refused, 2 wrong usage or payload, 3 wrong settings, topics or
    definitions, 4 broker, registry or gate did not answer, 5 the gate stopped itself, 70 a call hung or a bug, 130
    ended by Ctrl-C.

    Example:  placet dev flight.yaml
    """


def main() -> None:
    """Run the command line; the process ends with one of `ExitCode`."""
    sys.excepthook = _report_bug
    if sys.__stderr__ is not None:
        faulthandler.enable(
            sys.__stderr__
        )  # a crash of a native library tells in which calls, where it would end without a word
    try:
        # Not `app(…)`: that would put Typer's own hook for exceptions in the place of ours.
        typer.main.get_command(app)(prog_name="placet")
    except PlacetError as error:
        typer.echo(f"placet: {error}", err=True)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback without locals, which hold records and secrets; and not exit code 1, which says "differs"."""
    traceback.print_exception(kind, error, trace)
    typer.echo("placet: this is a bug, please report it with the lines above", err=True)
    sys.exit(ExitCode.BROKEN)
