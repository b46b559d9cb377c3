"""A component is ready when its own process answers, and goes on answering."""

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.local.component import Component, Progress
from infra.local.errors import ComponentError
from infra.local.home import Home
from infra.local.http import require_ok
from infra.local.ports import LOOPBACK, Port, free_ports
from infra.local.process import ProgramCommand
from infra.local.service import ServiceProcess

PROGRAM = """
import http.server, os, sys, threading

asked = threading.Event()

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.set()
        self.send_response(200)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready)
threading.Thread(target=server.serve_forever, daemon=True).start()
seconds = float(sys.argv[2])
asked.wait()
threading.Event().wait(seconds or None)
print("the relay lost its mind", flush=True)
os._exit(7)
"""
DEAF = "import threading; threading.Event().wait()"


class Program(Component):
    """Ready at once; ends with code 7 `lives` seconds after it was first asked, unless that is 0."""

    steady_for = ServiceProcess.steady_for
    start_within = 20.0

    def __init__(self, home: Home, lives: float = 0) -> None:
        super().__init__("program", home, Port(free_ports(1)[0], "PROGRAM_PORT"))
        self._lives = lives

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports[0].number}"

    def command(self) -> ProgramCommand:
        argv = (sys.executable, "-c", PROGRAM, str(self.ports[0].number), str(self._lives))
        return ProgramCommand(argv, env={}, cwd=Path.cwd())

    async def check(self) -> None:
        await require_ok(self.url)


class Stale(Program):
    """Its port is taken by somebody else between the look at it and the start; its own process listens on
    nothing."""

    start_within = 2.0

    def __init__(self, home: Home, sockets: ExitStack) -> None:
        super().__init__(home)
        self._sockets = sockets

    async def prepare(self, progress: Progress) -> None:
        self._sockets.enter_context(socket.create_server((LOOPBACK, self.ports[0].number)))

    def command(self) -> ProgramCommand:
        return ProgramCommand((sys.executable, "-c", DEAF), env={}, cwd=Path.cwd())

    async def check(self) -> None:
        """The other process would answer."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create()
    return home


async def test_a_program_that_dies_after_it_was_ready_is_not_reported_as_ready(home: Home) -> None:
    program, seen = Program(home, lives=2.0), list[str]()

    with pytest.raises(ComponentError) as failed:
        await program.start(lambda _, message: seen.append(message))

    assert str(failed.value).startswith("program: ended with code 7 right after it had become ready")
    assert "the relay lost its mind" in failed.value.details
    assert "ready" not in seen


async def test_a_program_that_stays_up_is_ready(home: Home) -> None:
    program, seen = Program(home), list[str]()
    try:
        await program.start(lambda _, message: seen.append(message))
        assert seen[-1] == "ready"
        assert program.running
    finally:
        await program.kill()


async def test_an_answer_of_another_process_on_the_port_does_not_count(home: Home) -> None:
    with ExitStack() as sockets:
        program = Stale(home, sockets)
        try:
            with pytest.raises(
                ComponentError, match=r"is answered by .*choose another port with PROGRAM_PORT="
            ):
                await program.start()
        finally:
            await program.kill()
