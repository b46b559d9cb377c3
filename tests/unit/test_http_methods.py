"""Methods: HEAD wherever GET is, and 405 with all that a path allows."""

from collections.abc import AsyncIterator

import httpx
import pytest

from millrace.http.metrics import UNMATCHED
from millrace.telemetry.metrics import Metrics
from tests.unit.http_kit import Thing, client, problem
from tests.unit.http_socket import Peer, serving, serving_internally

ORDER_PATH = "/orders/0199a5f0-7c3e-7d52-9f61-3a0b5d1c7e42"


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Thing(version=3)) as port:
        yield await Peer.connect(port)


@pytest.fixture
async def internal() -> AsyncIterator[Peer]:
    async with serving_internally() as port:
        yield await Peer.connect(port)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as http:
        yield http


@pytest.mark.parametrize("path", ["/thing", "/livez", "/readyz", "/numbers"])
async def test_head_is_a_get_without_a_body(peer: Peer, path: str) -> None:
    got = await peer.get(path)
    await peer.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await peer.answer(has_body=False)
    assert (head.status, head.headers.get("etag")) == (got.status, got.headers.get("etag"))
    assert head.headers["content-length"] == str(len(got.body))
    assert (await peer.get("/who")).status == 200, "the connection is still in step: there was no body"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/nothing"])
async def test_head_at_the_internal_port_has_no_body_either(internal: Peer, path: str) -> None:
    await internal.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await internal.answer(has_body=False)).status == (404 if path == "/nothing" else 200)
    assert (await internal.get("/livez")).status == 200


async def test_head_of_nothing_is_not_found(peer: Peer) -> None:
    await peer.send("HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await peer.answer(has_body=False)).status == 404


async def test_head_of_what_has_no_get_is_a_wrong_method(http: httpx.AsyncClient) -> None:
    response = await http.head(f"{ORDER_PATH}/cancel")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_a_head_is_counted_under_its_route() -> None:
    metrics = Metrics()
    async with client(Thing(version=3), metrics=metrics) as http:
        await http.head("/thing")
    page = metrics.render("")[0].decode()
    assert 'method="HEAD",route="/thing"' in page
    assert UNMATCHED not in page


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/orders", "GET, HEAD, POST"),
        ("PUT", "/orders", "GET, HEAD, POST"),
        ("GET", f"{ORDER_PATH}/cancel", "POST"),
        ("OPTIONS", "/thing", "GET, HEAD"),
        ("POST", "/thing", "GET, HEAD"),
        ("BREW", "/thing", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_names_every_right_one(
    http: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await http.request(method, path)
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed
    assert allowed in response.json()["detail"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("method", ["DELETE", "POST", "OPTIONS"])
async def test_health_is_only_looked_at(peer: Peer, method: str, path: str) -> None:
    await only_looked_at(peer, method, path)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
@pytest.mark.parametrize("method", ["DELETE", "POST", "OPTIONS"])
async def test_the_internal_port_is_only_looked_at(internal: Peer, method: str, path: str) -> None:
    await only_looked_at(internal, method, path)


async def only_looked_at(peer: Peer, method: str, path: str) -> None:
    await peer.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await peer.answer()
    assert (answer.status, answer.headers["allow"]) == (405, "get, head")
    assert answer.json()["type"] == "/problems/method_not_allowed"
