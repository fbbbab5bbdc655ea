"""Definitions from files: the only place where a definition's text comes from a disk."""

from __future__ import annotations

from pathlib import Path

from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DefinitionError

__all__ = ["load_definition", "read_text"]


def load_definition(path: Path) -> Definition:
    """Read a definition from a UTF-8 file.

    Raises:
        DefinitionError: the file cannot be read, or its text is no definition.
    """
    return parse_definition(read_text(path), str(path))


def read_text(path: Path) -> str:
    """A definition file's text.

    Raises:
        DefinitionError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(
            f"cannot be read: {error}", file=str(path), fix="Give the path of a UTF-8 YAML file."
        ) from error
