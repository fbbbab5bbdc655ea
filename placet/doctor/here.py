"""The checks of `placet doctor` that need no broker: this machine, the settings, the registry."""

from __future__ import annotations

import base64
import shutil
import ssl
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError

from placet.doctor.result import CheckResult, Status
from placet.processors.machine import compile_machine
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError
from placet.streams.host import LocalHost
from placet.streams.settings import Settings, unknown_variables

__all__ = ["compiled", "python", "registry", "state_dir", "variables"]

_FREE_BYTES_MIN: Final = 1 << 30
_REGISTRY_TIMEOUT_S: Final = 5.0


def python() -> CheckResult:
    """Look at the interpreter."""
    name, found = "python", f"{sys.version.split()[0]}"
    if sys.flags.optimize:
        todo = "Leave out -O and PYTHONOPTIMIZE: assertions are kept on."
        return CheckResult(name, Status.FAIL, f"{found} with -O", todo)
    return CheckResult(name, Status.OK, found)


def variables(settings: Settings, environment: Mapping[str, str]) -> CheckResult:
    """Look for variables that are meant as settings and are none."""
    unknown = unknown_variables(environment)
    if not unknown:
        given = f", instance {settings.instance}" if "instance" in settings.model_fields_set else ""
        return CheckResult("settings", Status.OK, f"app {settings.app}{given}")
    meant = [f"{name} (meant is {near}?)" if near else name for name, near in unknown.items()]
    return CheckResult("settings", Status.WARN, f"not settings: {', '.join(meant)}", "Mend the names, or ignore this.")


def compiled(definitions: Sequence[Definition]) -> CheckResult:
    """Compile the definitions."""
    try:
        for definition in definitions:
            compile_machine(definition)
    except DefinitionError as error:
        return CheckResult("definitions", Status.FAIL, str(error), "Mend the line that it names.")
    known = [f"{d.entity} v{d.version} ({d.digest.hex()[:8]})" for d in definitions]
    if not known:
        return CheckResult("definitions", Status.WARN, "none given", "Give --definition FILE: most checks need it.")
    return CheckResult("definitions", Status.OK, ", ".join(known))


def state_dir(folder: Path) -> CheckResult:
    """Try the folder of the local state."""
    name = "state dir"
    try:
        LocalHost().try_folder(folder)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        todo = "Give PLACET_STATE_DIR a folder that this user may write to."
        return CheckResult(name, Status.FAIL, f"{folder}: {error.strerror}", todo)
    if free_bytes < _FREE_BYTES_MIN:
        todo = "Make room: a full disk stops the gate."
        return CheckResult(name, Status.WARN, f"{folder}: {_mib(free_bytes)} free", todo)
    return CheckResult(name, Status.OK, f"{folder}: {_mib(free_bytes)} free")


def _mib(size_bytes: int) -> str:
    return f"{size_bytes >> 20:,} MiB"


def registry(settings: Settings) -> CheckResult:
    """Ask the schema registry for something cheap."""
    name, url = "registry", settings.registry.url
    if url is None:
        found = "none: records carry their schema's fingerprint (Avro single-object encoding)"
        return CheckResult(name, Status.OK, found)
    options = settings.registry_options()
    subjects = url.split(",")[0].rstrip("/") + "/subjects"
    request = urllib.request.Request(subjects, headers=_authorization(options))  # noqa: S310 - settings allow http(s) only
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        with urllib.request.urlopen(request, timeout=_REGISTRY_TIMEOUT_S, context=context):  # noqa: S310
            return CheckResult(name, Status.OK, f"{url} answers")
    except HTTPError as error:
        todo = "Look at PLACET_REGISTRY__OPTIONS__BASIC_AUTH_USER_INFO and the registry's rights."
        return CheckResult(name, Status.FAIL, f"{url} answers {error.code} {error.reason}", todo)
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return CheckResult(name, Status.FAIL, f"{url}: {reason}", "Start it, or mend PLACET_REGISTRY__URL.")


def _authorization(options: Mapping[str, str]) -> dict[str, str]:
    user_info = options.get("basic.auth.user.info")
    return {"Authorization": "Basic " + base64.b64encode(user_info.encode()).decode()} if user_info else {}
