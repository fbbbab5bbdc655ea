"""Runs the examples of docs/refusals.md: a definition, what is sent to a gate in memory, and the answer in its place.

An example is three blocks in a row: ```yaml, ```python, ```text. The value of the last line of Python is a decision.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from placet.schemas.decision import Decision, Retry
from placet.schemas.definition.model import parse_definition
from placet.schemas.messages import Kind, Message
from placet.testing import TestDriver

__all__ = ["answered", "decisions_of"]

EXAMPLE = re.compile(
    r"(```yaml\n(?P<rules>entity:.*?)```\n\n```python\n(?P<code>.*?)```\n\n```text\n)(.*?)```", re.DOTALL
)
PARTITIONS = 4
ADVICE = {Retry.NEVER: "", Retry.RECOMPUTE: ": read again, think again", Retry.LATER: ": send it again as it is"}


def decision_of(rules: str, code: str) -> Decision:
    """Run an example and return the decision that its last line gives."""
    *before, last = ast.parse(code).body
    assert isinstance(last, ast.Expr), f"the last line is no expression: {code}"
    driver = TestDriver(parse_definition(rules), partitions=PARTITIONS)
    names: dict[str, Any] = {
        "definition": rules, "driver": driver, "parse_definition": parse_definition,
        "TestDriver": TestDriver, "Kind": Kind, "Message": Message,
    }  # fmt: skip
    exec(compile(ast.Module(before, []), "<example>", "exec"), names)
    decision = eval(compile(ast.Expression(last.value), "<example>", "eval"), names)
    assert isinstance(decision, Decision), f"no decision: {code}"
    return decision


def decisions_of(page: str) -> list[Decision]:
    """Return the decisions of all examples of a page."""
    return [decision_of(found["rules"], found["code"]) for found in EXAMPLE.finditer(page)]


def shown(decision: Decision) -> str:
    """Return a decision as the page shows it."""
    before = f"version {decision.version_before}, {decision.status_before}"
    after = f"version {decision.version_after}, {decision.status_after}"
    first = decision.first
    lines = {
        "outcome": decision.outcome.name,
        "reason": f"{decision.reason.name} ({decision.reason.value})",
        "detail": decision.detail,
        "first": f"{first.input_id}, at version {first.version}" if first else "",
        "conflicts": "; ".join(f"version {version} set {', '.join(fields)}" for version, fields in decision.conflicts),
        "changed": f"{before} -> {after}" if decision.changed else "",
        "retry": decision.retry.name + ADVICE[decision.retry],
    }
    return "".join(f"{name:<10} {text}\n" for name, text in lines.items() if text)


def answered(page: str) -> str:
    """Return the page with the gate's answer in every example."""
    return EXAMPLE.sub(lambda found: f"{found[1]}{shown(decision_of(found['rules'], found['code']))}```", page)
