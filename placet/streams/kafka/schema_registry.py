"""The schema registry: ids of our schemas, schemas of foreign ids, and registering. The client speaks HTTP, we don't.

Nothing here is on the way of a record: our own ids are asked for once, when a codec is made, and a foreign id when it
is met for the first time: by a gate beside its transactions (`SchemaTexts`), by readers on the spot. A reader does not
ask again for a while for what the registry does not know, and for unknown ids altogether only a few times a second.

Subjects follow the TopicNameStrategy (`<topic>-value`), which Connect and the user interfaces expect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from placet.schemas.avro.schema import as_text, parse_schema
from placet.schemas.codec.compatibility import level_of
from placet.schemas.codec.contracts import CONTROL, DEAD_LETTER, DECISION, LEDGER, Schema, contracts
from placet.schemas.codec.wire import SINGLE_OBJECT, Confluent, Wire
from placet.schemas.definition.model import Definition
from placet.schemas.errors import PlacetError, SettingsError, UnknownSchema
from placet.streams.runtime import Runtime
from placet.streams.topology import control_topic, dead_letters_topic, entity_topics

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

__all__ = ["Registered", "Registry", "RegistryUnreachable", "SchemaTexts", "subjects", "wire_of"]

_DEFAULTS: Final[Mapping[str, Any]] = {"timeout": 2, "max.retries": 1}
"""A partition waits while a foreign id is asked for: not long."""
_NUMBERS: Final = ("timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms", "cache.capacity")
_FORGET_S: Final = 10.0
"""How long an unknown id stays unknown without being asked for again."""
_PAUSE_S: Final = 0.1
"""How long nothing is asked for after an id turned out to be unknown."""
_OUTAGE_S: Final = 30.0
"""How long nothing is asked for after the registry did not answer."""
_UNKNOWN_MAX: Final = 10_000
_FAILURES_MAX: Final = 3
"""So many ids without an answer, one after the other, say that the registry is away."""
_NOT_ASKED: Final = ""
_READ_BESIDE: Final = frozenset({"decision", "ledger", "control", "dead_letter"})
"""Roles of records that a gate reads outside of transactions, if at all."""
_ID_MAX: Final = (1 << 31) - 1
_NOT_FOUND: Final = 404
_OF_AN_ID: Final = frozenset({400, 404, 410, 422})
"""Answers that say of an id that there is no schema for it."""
_REFUSED: Final = (409, 422)


class RegistryUnreachable(PlacetError):
    """The registry did not answer, or answered with an error of its own. Reaction: start again later."""


class Registered(NamedTuple):
    """A subject as it is, or would be, after registering. `id` is None where nothing was written."""

    subject: str
    state: str
    id: int | None
    compatibility: str


def subjects(app: str, entity: str) -> dict[str, str]:
    """Return the subject of each role of an entity type, and of the app's own topics."""
    topics = entity_topics(app, entity)
    by_role = {
        "signal": topics.signals,
        "proposal": topics.proposals,
        "change": topics.changelog,
        "decision": topics.decisions,
        "ledger": topics.ledger,
        "control": control_topic(app),
        "dead_letter": dead_letters_topic(app),
    }
    return {role: f"{topic}-value" for role, topic in by_role.items()}


class Registry:
    """A schema registry, as a wire and a deployment ask it.

    Args:
        runtime: a clock.
        url: such as `http://localhost:8081`, or `mock://name` for one in memory.
        options: of the client, such as `basic.auth.user.info`; numbers may be text.

    Raises:
        SettingsError: an option is wrong, or the client's own requirements are not installed.
    """

    def __init__(self, runtime: Runtime, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._library, self._http = _import_client()
        try:
            numbers = {name: float(value) for name, value in (options or {}).items() if name in _NUMBERS}
            settings = {**_DEFAULTS, **(options or {}), **numbers, "url": url}
            self._client: SchemaRegistryClient = self._library.SchemaRegistryClient.new_client(settings)
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"The registry client refuses its options: {error}") from error
        self._monotonic_s = runtime.monotonic_s
        self._unknown: dict[int, float] = {}
        self._ask_again_at = 0.0

    def wire(self, app: str, entity: str, later: SchemaTexts | None = None) -> Confluent:
        """Return the framing of an entity type's topics.

        Args:
            app: prefix of the topics.
            entity: the entity type.
            later: has the schemas of what a transaction reads, and takes note of those that it lacks.
        """
        by_role = subjects(app, entity)

        def text_of(role: str, schema_id: int) -> str:
            return self.text_of(schema_id) if later is None or role in _READ_BESIDE else later.text_of(schema_id)

        return Confluent(lambda role, schema: self.id_of(by_role[role], schema), text_of)

    def id_of(self, subject: str, schema: Schema | str) -> int:
        """Return the id under which a schema is registered.

        Raises:
            SettingsError: it is not registered.
            RegistryUnreachable: nobody knows.
        """
        with self._asking():
            try:
                found = self._client.lookup_schema(subject, self._schema(schema))
            except self._library.SchemaRegistryError as error:
                if error.http_status_code != _NOT_FOUND:
                    raise
                raise SettingsError(
                    f"{self.url} does not have the schema of {subject}: run `placet schemas register`."
                ) from None
        if found.schema_id is None:
            raise RegistryUnreachable(f"{self.url} gives no id for {subject}")
        return found.schema_id

    def text_of(self, schema_id: int) -> str:
        """Return the schema of an id, as JSON text.

        Raises:
            UnknownSchema: the registry does not know it, can't be reached, or is asked too often.
        """
        if self._monotonic_s() < max(self._unknown.get(schema_id, 0.0), self._ask_again_at):
            raise UnknownSchema(f"the registry does not know the schema id {schema_id}, or is asked too often")
        try:
            with self._asking():
                text = self._text_of(schema_id)
        except RegistryUnreachable as error:
            self._ask_again_at = self._monotonic_s() + _OUTAGE_S
            raise UnknownSchema(f"schema id {schema_id}: {error}") from None
        if text is None:
            self._remember(schema_id)
            raise UnknownSchema(f"{self.url} does not know the schema id {schema_id}")
        return text

    def find(self, schema_id: int) -> str | None:
        """Return the schema of an id, as JSON text; None where the registry does not know it.

        Raises:
            RegistryUnreachable: nobody knows.
        """
        with self._asking():
            return self._text_of(schema_id)

    def _text_of(self, schema_id: int) -> str | None:
        if schema_id > _ID_MAX:
            return None
        try:
            return str(self._client.get_schema(schema_id).schema_str)
        except self._library.SchemaRegistryError as error:
            # A registry's own error names its code; a proxy's says nothing of the id, and nothing does while one may
            # not ask, or not now.
            if error.error_code <= 0 or error.http_status_code not in _OF_AN_ID:
                raise
            return None

    def _remember(self, schema_id: int) -> None:
        if len(self._unknown) >= _UNKNOWN_MAX:
            self._unknown.clear()
        self._unknown[schema_id] = self._monotonic_s() + _FORGET_S
        self._ask_again_at = self._monotonic_s() + _PAUSE_S

    def register(self, app: str, definition: Definition, *, dry_run: bool = False) -> list[Registered]:
        """Register an entity type's schemas, and the compatibility that each subject is to keep from then on.

        Args:
            app: prefix of the topics.
            definition: what the schemas are generated from.
            dry_run: only ask what would become of each; a refusal is then a state, "refused".

        Raises:
            SettingsError: the registry refuses one: it is not compatible with what it has.
            RegistryUnreachable: nobody knows what was registered; do it again.
        """
        generated = contracts(definition)._asdict()
        schemas = {**generated, "decision": DECISION, "ledger": LEDGER, "control": CONTROL, "dead_letter": DEAD_LETTER}
        by_role = subjects(app, definition.entity)
        step = self._foresee if dry_run else self._register
        return [step(by_role[role], schema) for role, schema in schemas.items()]

    def _foresee(self, subject: str, schema: Schema) -> Registered:
        with self._asking():
            if subject not in self._client.get_subjects():
                state = "new"
            elif self._has(subject, schema):
                state = "registered"
            else:
                fits = self._client.test_compatibility(subject, self._schema(schema))
                state = "new version" if fits else "refused"
        return Registered(subject, state, None, _compatibility(schema))

    def _register(self, subject: str, schema: Schema) -> Registered:
        compatibility = _compatibility(schema)
        with self._asking():
            state = "registered" if self._has(subject, schema) else "new version"
            try:
                schema_id = self._client.register_schema(subject, self._schema(schema))
            except self._library.SchemaRegistryError as error:
                if error.http_status_code not in _REFUSED:
                    raise
                raise SettingsError(f"{self.url} refuses the schema of {subject}: {error}") from error
            if not self.url.startswith("mock:"):  # the one in memory has no levels
                self._client.set_compatibility(subject, compatibility)
        return Registered(subject, state, schema_id, compatibility)

    def _has(self, subject: str, schema: Schema) -> bool:
        try:
            self._client.lookup_schema(subject, self._schema(schema))
        except self._library.SchemaRegistryError as error:
            if error.http_status_code != _NOT_FOUND:
                raise
            return False
        return True

    def _schema(self, schema: Schema | str) -> Any:
        return self._library.Schema(as_text(schema), "AVRO")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn every error of the client into one of ours."""
        try:
            yield
        except (self._library.SchemaRegistryError, self._http.HTTPError, OSError) as error:
            raise RegistryUnreachable(f"{self.url}: {error}") from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:  # what the client makes of a proxy's page
            raise RegistryUnreachable(f"{self.url} gave no answer of a registry: {error}") from error


class SchemaTexts:
    """The schemas of a registry's ids, as far as it was asked for them: beside the loop, never in a transaction.

    Args:
        registry: is asked; None where there is none.
        unknown_ids: count as unknown, and nobody is asked for them: an operator has decided so.
    """

    def __init__(self, registry: Registry | None, unknown_ids: Collection[int] = ()) -> None:
        self._registry = registry
        self._unknown_ids = frozenset(unknown_ids)
        self._texts: dict[int, str] = {}
        self._wanted: dict[int, str] = {}  # with why no answer came

    def text_of(self, schema_id: int) -> str:
        """Return the schema of an id, as JSON text.

        Raises:
            UnknownSchema: the registry did not know it when it was asked, or has yet to be asked.
        """
        text = self._texts.get(schema_id)
        if text is not None:
            return text
        if schema_id in self._unknown_ids:
            raise UnknownSchema(f"schema id {schema_id} counts as unknown: PLACET_REGISTRY__UNKNOWN_IDS", schema_id)
        self._wanted.setdefault(schema_id, _NOT_ASKED)
        raise UnknownSchema(f"the registry does not know the schema id {schema_id}", schema_id)

    def knows(self, schema_id: int) -> bool:
        """Tell whether the registry gave the schema of an id."""
        return schema_id in self._texts

    def ask(self) -> dict[int, str]:
        """Ask the registry for all that is wanted, each id by itself; those without an answer so far come last.

        Returns:
            The ids that still have no answer, which stay wanted, each with the reason.
        """
        wanted, failures, why = self._wanted.copy(), 0, ""  # the loop meets others meanwhile
        for schema_id in sorted(wanted, key=lambda one: wanted[one] != _NOT_ASKED):
            if self._registry is None or failures == _FAILURES_MAX:
                wanted[schema_id] = wanted[schema_id] or why
                continue
            del self._wanted[schema_id]
            try:
                text = self._registry.find(schema_id)
            except RegistryUnreachable as error:
                failures, why = failures + 1, str(error)
                wanted[schema_id] = self._wanted[schema_id] = why
                continue
            failures = 0
            del wanted[schema_id]
            if text is not None:
                self._texts[schema_id] = text
        return wanted


def wire_of(
    runtime: Runtime,
    url: str | None,
    options: Mapping[str, str],
    app: str,
    entity: str,
    later: SchemaTexts | None = None,
) -> Wire:
    """Return how an entity type's records are framed: by the registry's ids where there is one, else by fingerprints.

    Raises:
        SettingsError: see `Registry`.
    """
    return SINGLE_OBJECT if url is None else Registry(runtime, url, options).wire(app, entity, later)


def _compatibility(schema: Schema) -> str:
    return f"{level_of(parse_schema(schema))}_TRANSITIVE"


def _import_client() -> tuple[Any, Any]:
    """Import the client and its HTTP library: both are optional, and slow to import."""
    try:
        return import_module("confluent_kafka.schema_registry"), import_module("httpx2")
    except ImportError as error:
        raise SettingsError(f"A schema registry needs `pip install placet[registry]`: {error}") from error
