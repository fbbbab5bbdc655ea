"""Writes the tables of docs/ that come from the code: reasons, settings, metrics. `python ops/reference.py`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from placet.schemas.decision import REASONS
from placet.streams.metrics import METRICS
from placet.streams.settings import OWNED_OPTIONS, PREFIX, Settings

DOCS = Path(__file__).parents[1] / "docs"

REASONS_TEXT = """Every decision carries a reason, by name and by number; numbers are pinned and never reused.
`retry` says whether sending again can help: NEVER, RECOMPUTE (read again, think again), LATER (as it is)."""

SETTINGS_TEXT = """Command line over environment over default. With `_FILE` behind its name a variable names a file
that holds the value (Docker and Kubernetes secrets). `PLACET_DEFINITION` names one definition file.
`KAFKA_BOOTSTRAP_SERVERS` and `SCHEMA_REGISTRY_URL` count where the own variable is not set."""

METRICS_TEXT = """On `PLACET_METRICS_PORT`: `/metrics` (Prometheus), `/healthz` (the loop came around), `/readyz` (every
task of this gate runs). No label is an entity id."""


def reasons() -> str:
    rows = [
        f"| `{reason.name}` | {reason.value} | {text.retry.name} | {text.meaning} | {text.todo} |"
        for reason, text in REASONS.items()
    ]
    return "\n".join([
        "# Reasons", "",
        REASONS_TEXT, "",
        "| reason | number | retry | meaning | what to do |", "| --- | --- | --- | --- | --- |", *rows, "",
    ])  # fmt: skip


def rows_of(model: type[BaseModel], prefix: str) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += rows_of(kind, f"{variable}__")
        else:
            found.append(f"| `{variable}` | {default_of(field)} | {field.description or ''} |")
    return found


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return ""
    return f"`{field.default}`" if field.default not in ((), {}, None, "") else ""


def settings() -> str:
    owned = [f"| `{name}` | {todo} |" for name, todo in OWNED_OPTIONS.items()]
    return "\n".join([
        "# Settings", "",
        SETTINGS_TEXT, "",
        "| variable | default | meaning |", "| --- | --- | --- |", *rows_of(Settings, PREFIX), "",
        "## Options of librdkafka that are not for you to set", "",
        "Everything else goes through: `PLACET_KAFKA__OPTIONS`, as JSON or one variable for each option.", "",
        "| option | instead |", "| --- | --- |", *owned, "",
    ])  # fmt: skip


def metrics() -> str:
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.unit} | {metric.help} |"
        for metric in METRICS
    ]
    return "\n".join([
        "# Metrics", "",
        METRICS_TEXT, "",
        "| metric | type | labels | unit | meaning |", "| --- | --- | --- | --- | --- |", *rows, "",
    ])  # fmt: skip


if __name__ == "__main__":
    for name, page in (("reasons", reasons()), ("settings", settings()), ("metrics", metrics())):
        (DOCS / f"{name}.md").write_text(page)
