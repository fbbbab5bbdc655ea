"""The JSON Schema of a definition file, for editors: what people write, shorthand included.

Generated from the models, so that it cannot fall behind them. It checks the shape; names, statuses and expressions are
checked by `placet definitions validate`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from placet.schemas.definition.checks import NAME
from placet.schemas.definition.model import Definition

__all__ = ["json_schema"]

_NAMED = {"propertyNames": {"pattern": f"^{NAME}$"}}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a definition file."""
    schema = Definition.model_json_schema(by_alias=True)
    blocks = schema["$defs"]
    transition = blocks["TransitionRule"]
    for name in ("SignalRule", "ProposalRule"):
        _allow_inline(blocks[name], transition, without=("late",))
        blocks[name]["properties"]["payload"].update(_NAMED)
    timer = blocks["TimerRule"]
    after, at = (timer["properties"][key] for key in ("after", "at"))
    timer["properties"]["after"] = {**after["anyOf"][0], "description": after["description"]}  # null is no time
    del at["default"]
    _allow_inline(timer, transition, without=("late", "copy"))
    timer["anyOf"] = [{"required": ["after"]}, {"required": ["at"]}]
    timer["not"] = {"required": ["after", "at"]}
    properties = schema["properties"]
    del properties["sources"]  # written by Placet into the published document, not by people
    properties["entity"]["pattern"] = f"^{NAME}$"
    properties["statuses"]["items"] = {"type": "string", "pattern": f"^{NAME}$"}
    for section in ("fields", "signals", "proposals", "timers", "windows", "invariants"):
        properties[section].update(_NAMED)
    untitled: dict[str, Any] = _without_titles(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **untitled,
        "title": "Placet definition",
        "description": "One entity type: statuses, fields, signals (facts), proposals (what an AI would like), timers.",
    }


def _allow_inline(rule: dict[str, Any], transition: dict[str, Any], *, without: Collection[str]) -> None:
    """A rule's single transition may stand inline: its keys beside the rule's own."""
    inline = {key: form for key, form in transition["properties"].items() if key not in without}
    rule["properties"] = {**rule["properties"], **inline}
    rule["properties"]["transitions"]["minItems"] = 1
    del rule["required"]
    rule["oneOf"] = [
        {"required": ["from"], "not": {"required": ["transitions"]}},
        {"required": ["transitions"], "not": {"anyOf": [{"required": [key]} for key in inline]}},
    ]


def _without_titles(node: Any) -> Any:
    """Without the titles that pydantic derives from its own names; editors would show them."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_titles(value) for key, value in node.items() if key != "title"}
