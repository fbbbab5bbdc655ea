"""Asks the gates' metrics endpoints, all at once, each in a thread that nobody waits for beyond the time-out.

A DNS name is resolved at each look, and every address that it has is a gate of its own: a headless service of
Kubernetes names its pods like that. Where a name has IPv4 and IPv6 addresses those of IPv4 are taken, so that a gate
is not asked twice. `https` is for one gate behind a proxy: a certificate names no addresses, so the name stays.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http.client import HTTPException
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from placet.cli.top.known import Answer
from placet.cli.top.samples import Numbers, parse

__all__ = ["Fetcher", "Source", "source_of"]

_BODY_BYTES_MAX: Final = 32 * 1024 * 1024
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_PORTS: Final = {"http": 80, "https": 443}
_OPENER: Final = build_opener(ProxyHandler({}))
"""Gates are near, and a proxy of the environment would be asked for a pod's address in vain."""

K = TypeVar("K")
T = TypeVar("T")


class Source(NamedTuple):
    """An endpoint as it was given: one gate, or a name with many."""

    scheme: str
    host: str
    port: int
    path: str

    def url(self, address: str = "") -> str:
        """The address of the endpoint, at one of the name's addresses."""
        host = address or self.host
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.path}"


def source_of(text: str) -> Source:
    """Read an endpoint: a whole URL, or HOST:PORT, or the PORT of a gate on this machine.

    Raises:
        ValueError: it is none of them; says how to write it.
    """
    written = text.strip()
    if written.removeprefix(":").isdigit():
        written = f"127.0.0.1:{written.removeprefix(':')}"
    parts = urlsplit(written if "://" in written else f"http://{written}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in _PORTS or not parts.hostname or port == -1 or parts.username is not None:
        raise ValueError(f"{text!r} is no endpoint: write it like http://gate-0:9100/metrics, gate-0:9100 or 9100")
    path = parts.path if parts.path not in ("", "/") else "/metrics"
    query = f"?{parts.query}" if parts.query else ""
    return Source(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path + query)


class Fetcher:
    """Asks all endpoints, one answer for each.

    Args:
        sources: what to ask; none twice.
        timeout_s: how long one look waits, for the names and then for the answers.
    """

    def __init__(self, sources: Iterable[Source], timeout_s: float) -> None:
        self._sources = tuple(dict.fromkeys(sources))
        self._timeout_s = timeout_s
        self._addresses: dict[Source, list[str]] = {}

    def ask(self) -> list[Answer]:
        """Ask every gate once. What goes wrong with one of them is in its answer."""
        resolved = _all_in_time({source: partial(_resolve, source) for source in self._sources}, self._timeout_s)
        targets: dict[str, Callable[[], Answer]] = {}
        failed: list[Answer] = []
        for source in self._sources:
            addresses, error = resolved.get(source, ([], "its name was not resolved in time"))
            self._addresses[source] = addresses or self._addresses.get(
                source, []
            )  # a DNS server that fails says nothing
            if not self._addresses[source]:
                failed.append(Answer(source.url(), time.monotonic(), None, error))
            for address in self._addresses[source]:
                url = source.url(address)
                targets[url] = partial(_scraped, url, source, self._timeout_s)
        answers = _all_in_time(targets, self._timeout_s + 0.5)
        late = f"no answer within {self._timeout_s:g} s"
        return failed + [answers.get(url) or Answer(url, time.monotonic(), None, late) for url in targets]


def _all_in_time(calls: Mapping[K, Callable[[], T]], timeout_s: float) -> dict[K, T]:
    """Call all of them at once; leave out those that take too long."""
    done: SimpleQueue[tuple[K, T]] = SimpleQueue()

    def call(key: K, function: Callable[[], T]) -> None:
        done.put((key, function()))

    for key, function in calls.items():
        Thread(target=call, args=(key, function), daemon=True).start()
    deadline_s = time.monotonic() + timeout_s
    found: dict[K, T] = {}
    while len(found) < len(calls):
        try:
            key, result = done.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except Empty:
            break
        found[key] = result
    return found


def _resolve(source: Source) -> tuple[list[str], str]:
    """The addresses of a name, or why there are none."""
    if source.scheme == "https" or _is_address(source.host):
        return [source.host], ""
    try:
        found = socket.getaddrinfo(source.host, source.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return [], f"{source.host} has no address: {error.strerror}"
    by_family = {family: [str(info[4][0]) for info in found if info[0] == family] for family in _FAMILIES}
    return sorted(set(next((addresses for addresses in by_family.values() if addresses), []))), ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _scraped(url: str, source: Source, timeout_s: float) -> Answer:
    """Scrape one gate; what goes wrong becomes the answer's error."""
    try:
        numbers, error = _scrape(url, source, timeout_s), ""
    except HTTPError as failed:
        numbers, error = None, f"HTTP {failed.code} {failed.reason}"
    except URLError as failed:
        numbers, error = None, _why(failed.reason, timeout_s)
    except OSError as failed:
        numbers, error = None, _why(failed, timeout_s)
    except HTTPException:
        numbers, error = None, "it does not speak HTTP"
    except ValueError:
        numbers, error = None, "it does not speak Prometheus' text format"
    if numbers is not None and "placet_build_info" not in numbers:
        numbers, error = None, "it is no gate: it has metrics, but no placet_build_info"
    return Answer(url, time.monotonic(), numbers, error)


def _scrape(url: str, source: Source, timeout_s: float) -> Numbers:
    # The name goes along: what stands in front of a gate may choose by it.
    host = source.host if source.port == _PORTS[source.scheme] else f"{source.host}:{source.port}"
    request = Request(url, headers={"Accept": "text/plain; version=0.0.4", "Host": host})  # noqa: S310 - http or https
    with _OPENER.open(request, timeout=timeout_s) as answer:
        return parse(answer.read(_BODY_BYTES_MAX).decode())


def _why(reason: object, timeout_s: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return str(reason)
