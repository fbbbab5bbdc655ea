"""Errors, named after the reaction to them.

    PlacetError
    ├── DefinitionError      the definition file is wrong: the author corrects the line that it names
    ├── SettingsError        a setting, a topic or the machine is wrong: the operator corrects it, then starts again
    ├── DecodeError          these bytes are no record of the contract: the input is refused, its bytes are kept
    │   ├── InvalidPayload   the bytes decode, but the name is unknown, or the payload does not fit the name
    │   └── UnknownSchema    the schema is not known here: whoever may know it is asked, then the input is refused
    └── streams.errors       the errors that the run loop reacts to

A refused input is no error: it is a `Decision` (see `placet.schemas.decision`).
"""

from __future__ import annotations

__all__ = ["DecodeError", "DefinitionError", "InvalidPayload", "PlacetError", "SettingsError", "UnknownSchema"]


class PlacetError(Exception):
    """Root of all errors that Placet raises on purpose."""


class DefinitionError(PlacetError):
    """A definition can't be used. Reaction: load nothing; the author corrects the named line.

    Args:
        message: what is wrong.
        file: the path as the user gave it, or "<text>"; "" for a published document, which has no lines.
        line: 1-based line in the file, 0 when no line can be named.
        path: dotted path inside the document, such as `proposals.rebook.fence`.
        fix: one sentence that says what to write instead.
    """

    def __init__(self, message: str, *, file: str = "", line: int = 0, path: str = "", fix: str = "") -> None:
        self.message, self.file, self.line, self.path, self.fix = message, file, line, path, fix
        where = ":".join(str(part) for part in (file, line) if part) if file else ""
        head = ": ".join(part for part in (where, path, message) if part)
        super().__init__(f"{head}\n  fix: {fix}" if fix else head)


class SettingsError(PlacetError):
    """The environment of the process is wrong. Reaction: stop before anything is read or written.

    Args:
        message: what is wrong, and what to do about it.
    """


class DecodeError(PlacetError):
    """These bytes are no record of the contract. Reaction: refuse the input (`UNDECODABLE`), keep its bytes."""

    def told_as(self, message: str) -> DecodeError:
        """Return an error of the same kind that says more."""
        return type(self)(message)


class InvalidPayload(DecodeError):
    """A record whose payload does not fit its name. Reaction: refuse it (`INVALID_PAYLOAD`), correct the producer.

    Args:
        message: which field, and what is wrong with it.
        name: the name in the record; like the next two, empty if it could not be read.
        input_id: the `signal_id` or `proposal_id`.
        entity_id: the entity that the record is about.
    """

    def __init__(self, message: str, *, name: str = "", input_id: str = "", entity_id: str = "") -> None:
        self.name, self.input_id, self.entity_id = name, input_id, entity_id
        super().__init__(message)


class UnknownSchema(DecodeError):
    """The bytes name a schema that is not known here. Reaction: ask whoever may know it, else `UNKNOWN_SCHEMA`.

    Args:
        message: which schema, and who does not know it.
        schema_id: the registry's id; None where the bytes name a fingerprint, of which no registry is asked.
    """

    def __init__(self, message: str, schema_id: int | None = None) -> None:
        self.schema_id = schema_id
        super().__init__(message)

    def told_as(self, message: str) -> UnknownSchema:
        """Return one of the same schema."""
        return UnknownSchema(message, self.schema_id)
