"""YAML without surprises: one document, plain data, and the line of every value.

Read from PyYAML's event stream, so that nothing is resolved behind the author's back:

- only `true` and `false` are booleans, only `null`, `~` and nothing are null, numbers are written as in JSON;
  `on`, `off`, `yes`, `12:30`, `0x1F`, `1_000` and `2013-01-01` stay strings
- duplicate keys, anchors and aliases, tags, a second document and deep nesting are refused

JSON is read as well: a canonical document (`Definition.document`) is JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import yaml

from placet.schemas.errors import DefinitionError

__all__ = ["DEPTH_MAX", "Document", "Path", "read_yaml"]

DEPTH_MAX = 16
"""How deep lists and mappings may nest; a definition needs seven."""

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands in a document: keys and list indexes from the root."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,3})?\Z")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


class Document(NamedTuple):
    """What was read: plain data, the file's name, and the 1-based line of the key or item at each path."""

    data: Any
    file: str
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Line of the value at `path`, or of the nearest value around it that is in the file."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class _YamlReader:
    """One pass over the events; `lines` fills as values are read."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._file = file
        self.lines: dict[Path, int] = {(): 1}

    def document(self) -> Any:
        next(self._events)  # the stream starts
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise self._error("the file is empty", 1, (), "Begin with `entity: <name>`.")
        data = self._value(next(self._events), ())
        next(self._events)  # the document ends
        second = next(self._events)
        if not isinstance(second, yaml.StreamEndEvent):
            raise self._error("a second document begins here", _line(second), (), "Write one definition for each file.")
        return data

    def _value(self, event: Any, path: Path) -> Any:
        self._refuse_references(event, path)
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_characters(event, path)
            return _scalar(event)
        if len(path) >= DEPTH_MAX:
            raise self._error("nested too deep", _line(event), path, f"Nest at most {DEPTH_MAX} levels.")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            at = (*path, len(items))
            self.lines[at] = _line(event)
            items.append(self._value(event, at))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._refuse_references(event, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error("a key must be a plain word", _line(event), path, "Use a name as key.")
            key: str = event.value
            self._refuse_characters(event, path)
            at = (*path, key)
            if key in items:
                first = self.lines[at]
                raise self._error(
                    f"the key {key!r} stands here twice",
                    _line(event),
                    at,
                    f"Keep one of them; the first is on line {first}.",
                )
            self.lines[at] = _line(event)
            items[key] = self._value(next(self._events), at)
        return items

    def _refuse_references(self, event: Any, path: Path) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._error("anchors and aliases (&, *) are refused", _line(event), path, "Write the value out.")
        if getattr(event, "tag", None) is not None:
            raise self._error(
                f"tags ({event.tag}) are refused", _line(event), path, "Leave the tag out; quote strings."
            )

    def _refuse_characters(self, event: Any, path: Path) -> None:
        if _NO_TEXT.search(event.value):
            raise self._error(
                "a text holds a NUL character or half a surrogate pair",
                _line(event),
                path,
                "Remove it; write a character beyond U+FFFF as it is, or as \\U0001F600.",
            )

    def _error(self, message: str, line: int, path: Path, fix: str) -> DefinitionError:
        return DefinitionError(message, file=self._file, line=line, path=".".join(str(part) for part in path), fix=fix)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(event: Any) -> str | int | float | bool | None:
    text: str = event.value
    if event.style is not None:  # quoted, or a block: always a string
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text):
        return float(text)
    return text


def read_yaml(text: str, file: str = "<text>") -> Document:
    """Read one YAML document.

    Args:
        text: the whole file.
        file: its name for error messages.

    Raises:
        DefinitionError: not YAML, or one of the things that are refused; with line, path and fix.
    """
    reader = _YamlReader(text, file)
    try:
        return Document(reader.document(), file, reader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise DefinitionError(
            f"not YAML: {message}",
            file=file,
            line=mark.line + 1 if mark else 0,
            fix="Check indentation, colons and quotes; quote a text that holds `: `, ` #`, `?`, `{` or `[`.",
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DefinitionError(
            f"not YAML: the character U+{_code(error.character):04X} is not allowed",
            file=file,
            line=line,
            fix="Remove it, or write it as an escape in double quotes.",
        ) from error
    except (ValueError, OverflowError) as error:  # PyYAML calls chr() with whatever \UXXXXXXXX says
        raise DefinitionError(
            "not YAML: an escape names no character", file=file, fix="Write \\U0000 to \\U0010FFFF, or the character."
        ) from error


def _code(character: int | str) -> int:
    return character if isinstance(character, int) else ord(character[0])
