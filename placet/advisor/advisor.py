"""The class `Advisor`: a definition, a name, and functions for signals."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import start_http_server

from placet.advisor.advice import Limits, Think
from placet.advisor.logs import tame_client_logs
from placet.advisor.meter import Meter
from placet.advisor.pipeline import Pipeline
from placet.advisor.source import SignalSource, Start
from placet.advisor.taken import GatePositions
from placet.advisor.triggers import Reader
from placet.client.aio import AsyncClient
from placet.client.core import clock_ms, settings_here
from placet.client.errors import NotConnected
from placet.schemas.codec.codec import Codec
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.settings import Settings
from placet.streams.telemetry.log import configure_logs, get_logger, log_thread_errors
from placet.streams.topology import entity_topics

__all__ = ["Advisor"]

_COMMIT_EVERY_S: Final = 1.0
_CLOSE_WITHIN_S: Final = 10.0
_DEFAULTS: Final = Limits()


class Advisor:
    """Calls functions for the signals of one entity type, and proposes what they return.

        advisor = Advisor("flight", name="rebooker")

        @advisor.on("departed")
        async def think(signal: Signal, flight: Snapshot) -> Advice | None: ...

        raise SystemExit(advisor.run())

    Several processes with the same name share the partitions. Each advice is proposed with the signal as its cause, so
    the proposal because of a signal that is read again after a crash or a rebalance is applied at most once.

    Args:
        definition: the entity type's name, or a definition or the path of its file; see `AsyncClient`.
        name: the `proposer` of all proposals; app and name make the name of the consumer group.
        app: prefix of the topics; by default PLACET_APP, else `placet`.
        bootstrap_servers: Kafka's; by default the environment's.
        settings: all settings at once, in place of app, servers and environment.
        limits: bounds for the work.
        start: where a group without a stored position begins: `earliest` (signals that are too old are dropped) or
            `latest` (new signals only).
        metrics_port: port that serves the metrics for Prometheus; 0: none.
    """

    def __init__(
        self,
        definition: Definition | Path | str,
        *,
        name: str,
        app: str | None = None,
        bootstrap_servers: str | None = None,
        settings: Settings | None = None,
        limits: Limits = _DEFAULTS,
        start: Start = "earliest",
        metrics_port: int = 0,
    ) -> None:
        self.name = name
        self.limits = limits
        self._definition = definition
        self._settings = settings or settings_here(app, bootstrap_servers)
        self._start = start
        self._metrics_port = metrics_port
        self._thinkers: dict[str, Think] = {}
        self._meter = Meter(name)
        self._client: AsyncClient | None = None
        self._rules: Definition | None = None
        self._stopped = asyncio.Event()

    def on(self, *signals: str) -> Callable[[Think], Think]:
        """Register a function for signals of these names.

        Raises:
            SettingsError: one of the names has a function already, or the function is no `async def`.
        """

        def note(think: Think) -> Think:
            if not inspect.iscoroutinefunction(think):
                raise SettingsError(
                    f"{think!r} must be an `async def`; what blocks goes into `await asyncio.to_thread(…)`"
                )
            for name in signals:
                if name in self._thinkers:
                    raise SettingsError(f"`{name}` has a function already: {self._thinkers[name]!r}")
                self._thinkers[name] = think
            return think

        return note

    @property
    def client(self) -> AsyncClient:
        """The open client, for functions that propose by themselves, with `caused_by=signal.signal_id`.

        Raises:
            NotConnected: the advisor is not running.
        """
        if self._client is None:
            raise NotConnected("the advisor is not running")
        return self._client

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each result has occurred so far, by name, zero for one that has not; see docs/advisor.md."""
        return self._meter.counts

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit code 0.

        Raises:
            SettingsError: topics, definition or settings are missing or wrong.
            LogUnreachable, NotConnected: Kafka could not be reached, or was lost.
        """
        configure_logs(self._settings.log_level, app=self._settings.app, advisor=self.name)
        log_thread_errors()
        tame_client_logs()
        asyncio.run(self._main())
        return 0

    def stop(self) -> None:
        """Ask `serve` to end; it waits up to `grace_s` for calls under way."""
        self._stopped.set()

    async def serve(self) -> None:
        """Run in this event loop until `stop` is called. An advisor can be served only once.

        Raises:
            SettingsError, LogUnreachable, NotConnected: as `run`.
        """
        async with AsyncClient(self._definition, settings=self._settings, sender=self.name) as client:
            self._check(client.definition)
            self._rules = client.definition
            self._client = client
            endpoint = _endpoint(self._metrics_port, self._meter)
            try:
                await self._serve(client)
            finally:
                self._client = None
                endpoint()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self.serve()

    async def _serve(self, client: AsyncClient) -> None:
        topic = entity_topics(self._settings.app, client.definition.entity).signals
        reader = Reader(lambda: self._codec(client), self._thinkers, self._meter.count)
        self.limits.max_age_ms(client.definition.horizon_ms)  # a limit that makes no sense ends the start
        taken = GatePositions(self._settings, topic)
        pipeline = Pipeline(
            client, reader, self.limits, lambda: self._max_age_ms(client), self._meter, taken.has_taken, clock_ms
        )
        group = f"{self._settings.app}.advisor.{self.name}"
        source = SignalSource(
            self._settings, topic, group, start=self._start, take=pipeline.take, assigned=pipeline.assigned
        )
        try:
            await taken.open()
            await source.open()
            await self._until_stopped(pipeline, source)
        finally:
            await pipeline.stop()
            for last_word in (source.commit(pipeline.positions()), source.close(), taken.close()):
                with suppress(TimeoutError):  # of a Kafka that is away: what is not committed comes again
                    await asyncio.wait_for(last_word, _CLOSE_WITHIN_S)

    async def _until_stopped(self, pipeline: Pipeline, source: SignalSource) -> None:
        """Wait for `stop`; raise the error that ends the work before that."""
        stopped = asyncio.create_task(self._stopped.wait())
        work = {asyncio.create_task(source.ended()), asyncio.create_task(_commit(pipeline, source))}
        ends: set[asyncio.Future[Any]] = {stopped, pipeline.failed, *work}
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, *work):
            task.cancel()
        for ended in done - {stopped}:
            ended.result()

    def _max_age_ms(self, client: AsyncClient) -> int:
        horizon_ms = client.definition.horizon_ms
        try:
            return self.limits.max_age_ms(horizon_ms)
        except SettingsError:  # the horizon became shorter while the advisor ran
            return horizon_ms // 2

    def _codec(self, client: AsyncClient) -> Codec:
        """The codec of the rules in force; functions that new rules leave without a signal are told once."""
        definition = client.definition
        if definition is not self._rules:
            self._rules = definition
            without = sorted(self._thinkers.keys() - definition.signals.keys())
            if without:
                why = "their functions are not called until a later version has them"
                get_logger("advisor").warning(
                    "signals are gone from the rules", signals=without, version=definition.version, why=why
                )
        return client.codec

    def _check(self, definition: Definition) -> None:
        unknown = sorted(self._thinkers.keys() - definition.signals.keys())
        if unknown or not self._thinkers:
            known = ", ".join(definition.signals)
            said = f"no signal {', '.join(unknown)}" if unknown else "nothing to do: no function is named with `on`"
            later = ". If a later version has it, publish that one first" if unknown else ""
            raise SettingsError(
                f"the advisor `{self.name}` has {said}; version {definition.version} of `{definition.entity}` has the "
                f"signals {known}{later}"
            )


async def _commit(pipeline: Pipeline, source: SignalSource) -> None:
    committed: dict[int, int] = {}
    while True:
        await asyncio.sleep(_COMMIT_EVERY_S)
        positions = pipeline.positions()
        if positions != committed and await source.commit(positions):
            committed = positions


def _endpoint(port: int, meter: Meter) -> Callable[[], None]:
    if not port:
        return lambda: None
    try:
        server, _ = start_http_server(port, registry=meter.registry)
    except OSError as error:
        raise SettingsError(f"the advisor's metrics can't listen on port {port}: {error.strerror}") from error
    return server.shutdown
