"""Asking gates over HTTP: endpoints as people write them, names with many addresses, and everything that goes wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from placet.cli import main
from placet.cli.top import fetch as top_fetch
from placet.cli.top.fetch import Fetcher, source_of
from placet.cli.top.known import Answer
from placet.devbroker.settings import free_port
from tests.unit.top_sample import TestGate

Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve what a function gives, on a free port."""
    with ExitStack() as stack:

        def start(answer: Callable[[BaseHTTPRequestHandler], bytes], host: str = "127.0.0.1", port: int = 0) -> int:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.wfile.write(answer(self))

                def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                    pass

            server = ThreadingHTTPServer((host, port), Handler)
            server.daemon_threads = True
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server.server_address[1]

        yield start


def ok(text: str) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + text.encode()


def gate(name: str) -> Callable[[BaseHTTPRequestHandler], bytes]:
    told = TestGate(name).runs(0, of=1)
    return lambda _: ok(told.text())


def ask(*endpoints: str, timeout_s: float = 5.0) -> list[Answer]:
    return Fetcher(map(source_of, endpoints), timeout_s).ask()


# -- endpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("9100", "http://127.0.0.1:9100/metrics"),
        (":9100", "http://127.0.0.1:9100/metrics"),
        ("gate-0:9100", "http://gate-0:9100/metrics"),
        ("gate-0", "http://gate-0:80/metrics"),
        ("http://gate-0:9100", "http://gate-0:9100/metrics"),
        ("http://gate-0:9100/", "http://gate-0:9100/metrics"),
        ("https://gates.example/a/metrics?x=1", "https://gates.example:443/a/metrics?x=1"),
        ("http://[::1]:9100/metrics", "http://[::1]:9100/metrics"),
    ],
)
def test_endpoints_are_taken_as_people_write_them(written: str, url: str) -> None:
    assert source_of(written).url() == url


@pytest.mark.parametrize(
    "written", ["", "ftp://x/metrics", "file:///etc/passwd", "http://a:b@c/metrics", "x:y", "x:99999"]
)
def test_what_is_no_endpoint_is_refused_with_how_to_write_it(written: str) -> None:
    with pytest.raises(ValueError, match="write it like http://gate-0:9100/metrics"):
        source_of(written)


# -- answers ---------------------------------------------------------------------------------------------------------


def test_all_gates_are_asked_and_one_given_twice_once(serve: Serve) -> None:
    ports = [serve(gate("a")), serve(gate("b"))]
    answers = ask(*map(str, ports), f"127.0.0.1:{ports[0]}")
    assert [answer.endpoint for answer in answers] == [f"http://127.0.0.1:{port}/metrics" for port in ports]
    assert all(answer.numbers and not answer.error for answer in answers)


def test_what_goes_wrong_is_said_and_the_others_answer(serve: Serve) -> None:
    wrong = {
        free_port(): "connection refused",
        serve(lambda _: b"HTTP/1.0 404 Not Found\r\n\r\n"): "HTTP 404 Not Found",
        serve(lambda _: ok("<html>hello</html>")): "it does not speak Prometheus' text format",
        serve(lambda _: ok("node_load1 0.3\n")): "it is no gate: it has metrics, but no placet_build_info",
        serve(lambda _: b"\x00\x01\x02 what?\r\n\r\n"): "it does not speak HTTP",
        serve(lambda _: ok("a 1\n") + b"\xff\xfe"): "it does not speak Prometheus' text format",
        serve(gate("a")): "",
    }
    assert [answer.error for answer in ask(*map(str, wrong))] == list(wrong.values())


def test_one_that_hangs_is_not_waited_for(serve: Serve) -> None:
    ends = Event()

    def hang(_: BaseHTTPRequestHandler) -> bytes:
        ends.wait(30)
        return b""

    hanging, well = serve(hang), serve(gate("a"))
    answers = ask(str(hanging), str(well), timeout_s=0.3)
    ends.set()
    assert [answer.error for answer in answers] == ["no answer within 0.3 s", ""]


def test_a_proxy_of_the_environment_is_not_asked(serve: Serve) -> None:
    """In a process of its own: which proxies there are is looked up when the module is imported."""
    without = {name: is_set for name, is_set in os.environ.items() if name.lower() != "no_proxy"}
    top = ("top", "-e", str(serve(gate("a"))), "-o", "json", "-n", "1")
    done = subprocess.run(
        [sys.executable, "-c", "from placet.cli import main; main()", *top],
        env=without | {"http_proxy": f"http://127.0.0.1:{free_port()}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [row["error"] for row in json.loads(done.stdout)["gates"]] == [""], done.stderr


# -- names -----------------------------------------------------------------------------------------------------------


def dns(monkeypatch: pytest.MonkeyPatch, found: Callable[[str], list[str]]) -> None:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in address], 1, 6, "", (address, port)) for address in found(host)]

    names = SimpleNamespace(**{name: getattr(socket, name) for name in ("AF_INET", "AF_INET6", "SOCK_STREAM")})
    monkeypatch.setattr(top_fetch, "socket", SimpleNamespace(**vars(names), getaddrinfo=getaddrinfo))


def test_every_address_of_a_name_is_a_gate_of_its_own(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> bytes:
        hosts.append(handler.headers["Host"])
        return gate("a")(handler)

    port = serve(answer)
    serve(answer, "127.0.0.2", port)
    dns(monkeypatch, lambda _: ["127.0.0.2", "127.0.0.1", "::1"])
    answers = ask(f"gates:{port}")
    assert [answer.endpoint for answer in answers] == [f"http://127.0.0.{n}:{port}/metrics" for n in (1, 2)]
    assert hosts == [f"gates:{port}"] * 2, "what stands in front of a gate sees the name"


def test_addresses_that_come_and_go_are_followed_and_a_failing_dns_server_says_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = serve(gate("a"))
    serve(gate("b"), "127.0.0.2", port)
    looks = iter([["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], None, ["127.0.0.2"]])

    def found(host: str) -> list[str]:
        addresses = next(looks)
        if addresses is None:
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")
        return addresses

    dns(monkeypatch, found)
    fetcher = Fetcher([source_of(f"gates:{port}")], 5.0)
    seen = [[answer.endpoint[15:16] for answer in fetcher.ask()] for _ in range(4)]
    assert seen == [["1"], ["1", "2"], ["1", "2"], ["2"]]


def test_a_name_without_addresses_is_an_endpoint_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    dns(monkeypatch, found)
    [answer] = ask("gates:9100")
    assert (answer.endpoint, answer.error) == (
        "http://gates:9100/metrics",
        "gates has no address: Name or service not known",
    )


# -- the command -----------------------------------------------------------------------------------------------------

Top = Callable[..., tuple[int, str, str]]


@pytest.fixture
def top(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Top:
    """Run `placet top` in this process and return exit code, stdout and stderr."""
    for name in os.environ:
        if name.startswith("PLACET_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["placet", "top", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_one_frame_as_text_and_as_json(serve: Serve, top: Top) -> None:
    ports = [str(serve(gate("a"))), str(serve(gate("b")))]
    code, out, _ = top("-e", ports[0], "-e", ports[1], "--once", "--interval-s", "0.1")
    assert (code, out.count("placet prod  2 gates")) == (0, 1)
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = top("-e", ports[0], "-e", ports[1], "--output", "json", "--once", "--interval-s", "0.1")
    assert code == 0
    assert [row["gate"] for row in json.loads(out)["gates"]] == ["a", "b"]


def test_json_alone_is_one_frame_and_with_a_count_one_object_a_line(serve: Serve, top: Top) -> None:
    port = str(serve(gate("a")))
    _, out, _ = top("-e", port, "-o", "json", "--interval-s", "0.1", "--count", "3")
    frames = [json.loads(line) for line in out.splitlines()]
    assert len(frames) == 3
    assert all(frame["total"]["decisions_per_s"] == 0.0 for frame in frames), "each has rates"


def test_endpoints_can_come_from_the_environment(serve: Serve, top: Top, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACET_TOP_ENDPOINTS", f"{serve(gate('a'))}, 127.0.0.1:{serve(gate('b'))}")
    code, out, _ = top("-o", "json", "-n", "1", "--interval-s", "0.1")
    assert (code, json.loads(out)["answering"]) == (0, 2)


def test_without_endpoints_the_gate_of_this_machine_is_asked(
    serve: Serve, top: Top, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACET_METRICS_PORT", str(serve(gate("a"))))
    code, out, _ = top("-o", "json", "-n", "1", "--interval-s", "0.1")
    assert (code, json.loads(out)["answering"]) == (0, 1)


def test_when_none_answers_it_says_why_and_what_to_do(top: Top) -> None:
    port = free_port()
    code, out, err = top("-e", str(port))
    assert (code, out) == (4, "")
    assert f"http://127.0.0.1:{port}/metrics: connection refused" in err
    assert "--metrics-port" in err
    assert "PLACET_TOP_ENDPOINTS" in err


def test_a_wrong_endpoint_is_wrong_usage(top: Top) -> None:
    code, _, err = top("-e", "ftp://x")
    assert code == 2
    assert "is no endpoint" in err


def test_help_has_an_example_and_the_exit_codes(top: Top) -> None:
    code, out, _ = top("--help")
    assert code == 0
    assert "Example:" in out
    assert "Exit code:" in out


@pytest.mark.parametrize(("end", "code"), [("q", 0), ("Ctrl-C", 130)])
def test_the_live_view_draws_over_itself_until_it_is_ended(serve: Serve, end: str, code: int) -> None:
    port = serve(gate("a"))
    ours, its = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"}
    command = [sys.executable, "-m", "placet.cli", "top", "-e", str(port), "--interval-s", "0.1"]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as watching:
        os.close(its)
        shown = b"".join(terminal_of(ours, until=6))
        if end == "q":
            os.write(ours, b"q")
        else:
            watching.send_signal(signal.SIGINT)
        after = b"".join(terminal_of(ours))
    os.close(ours)
    assert watching.returncode == code
    assert shown.startswith(b"\x1b[?1049h"), "it has a screen of its own"
    assert b"\x1b[?1049l" in after, "the shell's comes back"


def terminal_of(ours: int, until: int | None = None) -> Iterator[bytes]:
    """What is drawn, until so many frames or the end: a program that nobody reads from waits."""
    frames = 0
    while until is None or frames < until:
        try:
            drawn = os.read(ours, 65_536)
        except OSError:  # Linux' way to say that the other side is closed
            return
        frames += drawn.count(b"since start")
        yield drawn
