"""The internal port has what no client needs; the public one says neither why nor how much."""

import httpx
import pytest

from millrace.http.app import create_app
from millrace.http.health import HealthEndpoints, Report
from millrace.runtime.worker import Health
from tests.unit.http_kit import router
from tests.unit.http_socket import Peer, serving, serving_internally

SECRET = "password authentication failed for user order_service"
FAILING: Report = lambda: {  # noqa: E731
    "database": Health(ready=False, detail=SECRET, needed=True),
    "relay": Health(ready=False, detail="Kafka can't be reached", needed=False),
}


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/docs", "/openapi.json", "/asyncapi.json", "/redoc", "/static-offline-docs/favicon.png"],
)
async def test_the_public_port_has_no_route_for_operators(path: str) -> None:
    async with serving() as port:
        assert (await (await Peer.connect(port)).get(path)).status == 404


async def test_the_public_port_says_whether_and_not_why() -> None:
    transport = httpx.ASGITransport(HealthEndpoints(create_app("Test", router), FAILING))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        ready = await http.get("/readyz")
        alive = await http.get("/livez")
    assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})


async def test_the_internal_port_says_why() -> None:
    async with serving_internally(FAILING) as port:
        answer = await (await Peer.connect(port)).get("/readyz")
    assert (answer.status, answer.json()["failing"]) == (503, ["database"])
    assert answer.json()["checks"]["database"]["detail"] == SECRET


async def test_the_internal_port_answers_probes_under_any_name() -> None:
    async with serving_internally() as port:
        peer = await Peer.connect(port)
        await peer.send("GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:7001\r\n\r\n")
        assert (await peer.answer()).status == 200


async def test_the_internal_port_has_no_route_of_the_service() -> None:
    async with serving_internally() as port:
        assert (await (await Peer.connect(port)).get("/who")).status == 404


async def test_a_process_without_routes_describes_none() -> None:
    async with serving_internally(described=False) as port:
        peer = await Peer.connect(port)
        assert (await peer.get("/livez")).status == 200
        assert (await peer.get("/openapi.json")).status == 404
        assert (await peer.get("/docs")).status == 404
