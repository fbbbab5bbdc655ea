"""Definitions as their authors write them: from files, with the Python functions that they name beside Placet."""

from __future__ import annotations

from pathlib import Path

from placet.processors.expressions.functions import function_digest
from placet.schemas.definition import model
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError

__all__ = ["load_definition", "parse_definition", "problems_of", "read_text"]


def load_definition(path: Path) -> Definition:
    """Read a definition from a UTF-8 file.

    Raises:
        DefinitionError: the file cannot be read, or its text is no definition.
    """
    return parse_definition(read_text(path), str(path))


def parse_definition(text: str, file: str = "<text>") -> Definition:
    """Read a definition from YAML or from its canonical JSON; the modules of its `python:` functions are imported.

    Args:
        text: the whole document.
        file: its name for error messages.

    Raises:
        DefinitionError: the first error in the text, with file, line, path and fix.
    """
    return model.parse_definition(text, file, function_digest)


def problems_of(text: str, file: str = "<text>") -> list[DefinitionError]:
    """Everything that is wrong with a definition's text, in file order; empty when it loads."""
    return model.problems_of(text, file, function_digest)


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
