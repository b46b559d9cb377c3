"""What every answer carries, no matter who gave it."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import pytest

from millrace.http.limits import HttpLimits
from tests.unit.http_socket import Answer, Peer, serving, serving_internally

LIMITS = HttpLimits(head_timeout=0.5, connections=10)
LONG = "x" * 40_000
ANSWERS = {
    "200": ("GET /who", ()),
    "400": ("nonsense", ()),
    "401": ("POST /orders", ("Content-Length: 0",)),
    "404": ("GET /nothing", ()),
    "405": ("DELETE /who", ()),
    "408": ("GET /who HTTP/1.1\r\nX-Slow: ", None),
    "413": ("POST /orders", ("Content-Type: application/json", "Content-Length: 999999")),
    "415": ("POST /orders", ("Content-Length: 1", "", "x")),
    "421": ("GET /who", ("Host: evil.com",)),
    "422": ("GET /numbers?limit=x", ()),
    "431": (f"GET /{LONG}", ()),
    "500": ("GET /raise/unexpected", ()),
    "503": ("GET /raise/database-down", ()),
    "200 livez": ("GET /livez", ()),
    "200 readyz": ("GET /readyz", ()),
    "405 health": ("POST /livez", ("Content-Length: 0",)),
}
INTERNAL = {
    "200 livez": ("GET /livez", ()),
    "200 readyz": ("GET /readyz", ()),
    "200 metrics": ("GET /metrics", ()),
    "200 openapi": ("GET /openapi.json", ()),
    "404 asyncapi": ("GET /asyncapi.json", ()),
    "404": ("GET /nothing", ()),
    "405": ("POST /livez", ("Content-Length: 0",)),
    "404 static": ("GET /static-offline-docs/nothing.js", ()),
    "200 static": ("GET /static-offline-docs/swagger-ui.css", ()),
    "431": (f"GET /{LONG}", ()),
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(limits=LIMITS) as port:
        yield port


@pytest.fixture
async def internal() -> AsyncIterator[int]:
    async with serving_internally(limits=LIMITS) as port:
        yield port


async def asked(port: int, line: str, headers: tuple[str, ...] | None) -> Answer:
    peer = await Peer.connect(port)
    if headers is None:
        await peer.send(line)
    else:
        host = () if headers and headers[0].startswith("Host") else ("Host: localhost",)
        await peer.send("\r\n".join([f"{line} HTTP/1.1", *host, *headers, "", ""]))
    return await peer.answer()


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_not_stored_not_guessed_at_and_runs_nothing(port: int, name: str) -> None:
    guarded(await asked(port, *ANSWERS[name]), int(name[:3]))


@pytest.mark.parametrize("name", INTERNAL)
async def test_nor_is_one_of_the_internal_port(internal: int, name: str) -> None:
    guarded(await asked(internal, *INTERNAL[name]), int(name[:3]))


def guarded(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers


async def test_the_docs_page_runs_its_own_script_and_nothing_else(internal: int) -> None:
    answer = await asked(internal, "GET /docs", ())
    policy = answer.headers["content-security-policy"]
    scripts = re.search(r"script-src ([^;]*)", policy)
    (inline,) = re.findall(r"<script>(.*?)</script>", answer.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert scripts
    assert scripts[1] == f"'self' 'sha256-{digest.lower()}'"
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for linked in re.findall(r'(?:src|href)="([^"]+)"', answer.body.decode()):
        assert linked.startswith("/static-offline-docs/")
        assert (await asked(internal, f"GET {linked}", ())).status == 200
