"""Rates: who asks too often is told when to come back, and nobody else notices."""

from ipaddress import ip_network
from uuid import UUID

import pytest

from millrace.http.limits import HttpLimits
from millrace.http.rates import TokenBuckets
from millrace.http.requester import Requesters
from millrace.process.settings import ServiceSettings, SettingsError, load
from tests.unit.http_kit import client
from tests.unit.http_socket import Answer, Peer, serving

TIGHT = HttpLimits(rate=0.01, burst=3)
ANNA, BEN = str(UUID(int=1)), str(UUID(int=2))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def asked(peer: Peer, *headers: str) -> Answer:
    await peer.send("\r\n".join(["GET /who HTTP/1.1", "Host: localhost", *headers, "", ""]))
    return await peer.answer()


async def test_who_asks_too_often_is_told_when_to_ask_again_and_nobody_else_is() -> None:
    async with serving(limits=TIGHT) as port:
        peer = await Peer.connect(port)
        for _ in range(3):
            assert (await asked(peer, f"X-Customer-Id: {ANNA}")).status == 200
        answer = await asked(peer, f"X-Customer-Id: {ANNA}")
        assert (answer.status, answer.headers["content-type"]) == (429, "application/problem+json")
        assert answer.json()["type"] == "/problems/too_many_requests"
        assert 90 <= int(answer.headers["retry-after"]) <= 100
        assert (await asked(peer, f"X-Customer-Id: {BEN}")).status == 200
        assert (await asked(peer, "X-Operator-Id: ada")).status == 200
        assert (await asked(peer)).status == 200


async def test_requests_for_a_host_that_is_not_served_count_too() -> None:
    async with serving(limits=TIGHT) as port:
        peer = await Peer.connect(port)
        statuses = []
        for _ in range(4):
            await peer.send("GET /who HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            statuses.append((await peer.answer()).status)
        assert statuses == [421, 421, 421, 429]


async def test_who_names_nobody_is_an_address() -> None:
    async with serving(limits=TIGHT) as port:
        for status in (200, 200, 200, 429):
            assert (await asked(await Peer.connect(port))).status == status


@pytest.mark.parametrize(
    "headers",
    [
        (f"X-Customer-Id: {ANNA}", "X-Operator-Id: ada"),
        (f"X-Customer-Id: {ANNA}", f"X-Customer-Id: {BEN}"),
        ("X-Operator-Id: " + "a" * 65,),
    ],
    ids=["two", "twice", "long"],
)
async def test_a_name_that_no_actor_can_have_counts_for_the_address(headers: tuple[str, ...]) -> None:
    async with serving(limits=TIGHT) as port:
        peer = await Peer.connect(port)
        statuses = [(await asked(peer, *headers)).status for _ in range(4)]
        assert statuses == [400, 400, 400, 429]
        assert (await asked(peer)).status == 429


async def test_a_refused_request_is_refused_before_its_body_is_read() -> None:
    async with serving(limits=TIGHT) as port:
        peer = await Peer.connect(port)
        for _ in range(3):
            await asked(peer)
        await peer.send("POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n")
        assert (await peer.answer()).status == 429


async def test_forwarded_for_is_believed_from_nobody_by_default() -> None:
    async with client(limits=TIGHT) as http:
        statuses = [
            (await http.get("/who", headers={"X-Forwarded-For": f"198.51.100.{number}"})).status_code
            for number in range(4)
        ]
    assert statuses == [200, 200, 200, 429]


def test_a_bucket_fills_again() -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=2, burst=4, clock=clock)
    assert [buckets.take("anna") for _ in range(4)] == [0, 0, 0, 0]
    assert buckets.take("anna") == pytest.approx(0.5)
    assert buckets.take("ben") == 0
    clock.now += 0.5
    assert buckets.take("anna") == 0
    assert buckets.take("anna") == pytest.approx(0.5), "and what was refused took nothing"
    clock.now += 1_000
    assert [buckets.take("anna") > 0 for _ in range(5)] == [False, False, False, False, True]


def test_requesters_without_number_fill_no_memory() -> None:
    buckets = TokenBuckets(rate=1, burst=1, most=1_000)
    for number in range(100_000):
        buckets.take(f"actor {number}")
    assert len(buckets) <= 2_000


def test_those_who_go_on_asking_are_not_forgotten() -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=0.001, burst=1, most=100, clock=clock)
    assert buckets.take("anna") == 0
    for number in range(10_000):
        buckets.take(f"actor {number}")
        if number % 50 == 0:
            assert buckets.take("anna") > 0


def address(peer: str, *forwarded: str, trusted: str = "10.0.0.0/8") -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "client": (peer, 1), "headers": headers}
    return Requesters([ip_network(trusted)]).note(scope)


def test_a_trusted_proxy_says_whose_request_it_is() -> None:
    assert address("10.0.0.1", "198.51.100.7") == "198.51.100.7"
    assert address("10.0.0.1", "198.51.100.7, 10.9.9.9") == "198.51.100.7"
    assert address("10.0.0.1") == "10.0.0.1"


def test_what_stands_before_the_last_untrusted_address_is_anybodys() -> None:
    assert address("10.0.0.1", "203.0.113.1, 198.51.100.7") == "198.51.100.7"
    assert address("10.0.0.1", "203.0.113.1", "198.51.100.7") == "198.51.100.7"
    assert address("10.0.0.1", "198.51.100.7, nonsense") == "10.0.0.1"
    assert address("192.0.2.1", "198.51.100.7") == "192.0.2.1"


def test_addresses_of_one_client_are_one() -> None:
    assert address("2001:db8::1") == address("2001:db8::ffff:1") == "2001:db8::/64"
    assert address("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert address("::ffff:192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("HTTP_RATE", "0"),
        ("HTTP_RATE", "nan"),
        ("HTTP_BURST", "many"),
        ("HTTP_WAITS_PER_ACTOR", "0"),
        ("HTTP_CONNECTIONS", "-1"),
        ("HTTP_HEAD_TIMEOUT", "inf"),
        ("HTTP_BODY_BYTES", "1"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_its_name(
    variable: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDER_DATABASE_URL", "postgresql://nobody:secret@localhost/none")
    monkeypatch.setenv(f"ORDER_{variable}", given)
    with pytest.raises(SettingsError, match=f"^ORDER_{variable} is malformed: "):
        load(ServiceSettings, prefix="ORDER_")


def test_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_DATABASE_URL", "postgresql://nobody:secret@localhost/none")
    assert load(ServiceSettings, prefix="ORDER_").http_limits == HttpLimits()
    monkeypatch.setenv("ORDER_HTTP_RATE", "7.5")
    monkeypatch.setenv("ORDER_TRUSTED_PROXIES", "10.0.0.7, 2001:db8::/32")
    limits = load(ServiceSettings, prefix="ORDER_").http_limits
    assert limits.rate == 7.5
    assert limits.trusted_proxies == (ip_network("10.0.0.7/32"), ip_network("2001:db8::/32"))
