"""`placet top`: shows what all gates of an app do right now, from their metrics endpoints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import select
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from placet.cli.exit_codes import ExitCode
from placet.cli.options import settings_from
from placet.cli.output import OutputForm, OutputOption
from placet.cli.top.fetch import Fetcher, Source, source_of
from placet.cli.top.frame import Frame
from placet.cli.top.view import render
from placet.cli.top.watch import Watch

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_INTERVAL_S: Final = 2.0
_FIRST_INTERVAL_S: Final = 1.0
"""Rates come with the second look: in the live view it comes early."""
_VARIABLE: Final = "PLACET_TOP_ENDPOINTS"
_PORT: Final = 9100
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on


@app.command()
def top(
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            "-e",
            metavar="URL|HOST:PORT|PORT",
            help="A gate's /metrics, or a DNS name of all gates; may be repeated. Or PLACET_TOP_ENDPOINTS, "
            "with commas.  [this machine, PLACET_METRICS_PORT or 9100]",
            show_default=False,
        ),
    ] = None,
    interval_s: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds between two refreshes; rates cover this time.  [2]", show_default=False),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many frames.  [no end]", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, as --count 1.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="How long to wait for a gate's answer.")] = 2.0,
    output: OutputOption = OutputForm.TEXT,
) -> None:
    """Watch the gates: throughput, outcomes by reason, lag, latency and restores, by gate and by partition.

    Rates and percentiles cover the time between two refreshes. q or Ctrl-C ends it. If the output is not a terminal,
    frames are printed one after the other. JSON is one frame, or with --interval-s or --count one object a line.
    A gate that does not answer is shown with the time since its last answer.

    In Kubernetes give the name of a headless service with publishNotReadyAddresses; otherwise pods that restore are
    not among its addresses.

    Exit code: 0 shown, 2 wrong usage, 3 wrong settings, 4 no gate answered the first look, 130 ended by Ctrl-C.

    Example:  placet top -e 9100 -e 9101      placet top -e gates.prod.svc:9100 --once --output json
    """
    lines = output is OutputForm.JSON and (interval_s is not None or count is not None)
    if once or (output is OutputForm.JSON and not lines):
        count = 1
    show = _Looks(Fetcher(_sources(endpoint), timeout_s), interval_s or _INTERVAL_S)
    first = show.look()
    if not first.answering:
        typer.echo(_nobody(first), err=True)
        raise typer.Exit(ExitCode.UNREACHABLE)
    if output is OutputForm.JSON:
        for frame in show.frames(count):
            typer.echo(msgspec.json.encode(frame).decode() if lines else _indented(frame))
        return
    console = Console(highlight=False)
    if console.is_terminal and not once:
        _live(console, show, first, count)
        return
    for frame in show.frames(count):
        console.print(render(frame))


class _Looks:
    """Looks at the gates again and again, in even intervals."""

    def __init__(self, fetcher: Fetcher, interval_s: float) -> None:
        self._fetcher = fetcher
        self._watch = Watch()
        self.interval_s = interval_s
        self._looked_s = 0.0

    def look(self) -> Frame:
        """Ask all gates and return what is new."""
        self._looked_s = time.monotonic()
        answers = self._fetcher.ask()
        return self._watch.look(answers, time.monotonic(), time.time())

    def due_in_s(self, interval_s: float) -> float:
        """How long to wait so that two looks begin this far apart."""
        return max(0.0, self._looked_s + interval_s - time.monotonic())

    def frames(self, count: int | None) -> Iterator[Frame]:
        """Return so many frames, or go on for ever: each after an interval, so that each has rates."""
        shown = 0
        while count is None or shown < count:
            time.sleep(self.due_in_s(self.interval_s))
            yield self.look()
            shown += 1


def _live(console: Console, show: _Looks, first: Frame, count: int | None) -> None:
    """Draw frame after frame over the one before, until q or Ctrl-C."""
    interval_s, shown = min(show.interval_s, _FIRST_INTERVAL_S), 0
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(render(first, console.height), refresh=True)
        while pressed(show.due_in_s(interval_s)) != "q" and shown != count:
            live.update(render(show.look(), console.height), refresh=True)
            interval_s, shown = show.interval_s, shown + 1


def _no_keys(timeout_s: float) -> str:
    time.sleep(timeout_s)
    return ""


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key, for so many seconds; "" for none."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    keyboard = sys.stdin.fileno()
    import termios  # noqa: PLC0415 - a terminal is where it exists
    import tty  # noqa: PLC0415

    def pressed(timeout_s: float) -> str:
        ready, _, _ = select([keyboard], [], [], timeout_s)
        return os.read(keyboard, 32).decode(errors="replace") if ready else ""

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _sources(given: list[str] | None) -> list[Source]:
    """What to ask: command line over environment over the gate that would run here."""
    endpoints = given or os.environ.get(_VARIABLE, "").replace(",", " ").split()
    if not endpoints:
        settings = settings_from()
        host = "127.0.0.1" if settings.metrics_host in _EVERYWHERE else settings.metrics_host
        return [Source("http", host, settings.metrics_port or _PORT, "/metrics")]
    try:
        return [source_of(text) for text in endpoints]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _nobody(frame: Frame) -> str:
    """Say that no gate answered, why, and what to do."""
    asked = [f"  {gate.endpoint}: {gate.error}" for gate in frame.gates]
    return "\n".join([
        "No gate answered:", *asked,
        "A gate serves its metrics where it is given a port: placet run --metrics-port 9100 (or PLACET_METRICS_PORT).",
        f"Name all of them: placet top -e 9100 -e 9101; or a DNS name of all, -e gates:9100; or {_VARIABLE}.",
    ])  # fmt: skip


def _indented(frame: Frame) -> str:
    return msgspec.json.format(msgspec.json.encode(frame), indent=2).decode()
