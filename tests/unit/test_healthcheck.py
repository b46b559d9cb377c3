"""The health check of a container, as Docker runs it."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest


class Ready(BaseHTTPRequestHandler):
    """Answers every path but /readyz with an error."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 500)
        self.end_headers()
        self.wfile.write(b'{"status": "what it says"}')

    def log_message(self, *_: object) -> None:
        """Quiet."""


class NotReady(Ready):
    status = 503


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), request.param)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def check(variable: str, **environment: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "millrace.process.healthcheck", variable],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not ran.stderr
    return ran.returncode, ran.stdout.strip()


@pytest.mark.parametrize(("port", "code"), [(Ready, 0), (NotReady, 1)], indirect=["port"])
def test_it_tells_whether_the_service_is_ready_and_what_the_service_says(port: int, code: int) -> None:
    assert check("ORDER_HTTP_PORT", ORDER_HTTP_PORT=str(port)) == (code, '{"status": "what it says"}')


def test_a_service_that_does_not_answer_is_not_ready() -> None:
    code, said = check("ORDER_HTTP_PORT", ORDER_HTTP_PORT="1")

    assert code == 1
    assert said.startswith("no answer on port 1")


def test_a_port_that_is_not_set_is_said() -> None:
    assert check("ORDER_HTTP_PORT") == (1, "millrace.process.healthcheck: ORDER_HTTP_PORT names no port")
