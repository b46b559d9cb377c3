"""Allowed hosts: whom a request is for, however it says so."""

from collections.abc import AsyncIterator

import pytest

from millrace.http.hosts import canonical_host
from millrace.http.limits import HttpLimits
from millrace.process.settings import ServiceSettings, SettingsError, load
from tests.unit.http_socket import Answer, Peer, serving

HOSTS = HttpLimits(allowed_hosts=frozenset({"shop.example.com", "127.0.0.1", "::1"}))


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(limits=HOSTS) as port:
        yield port


async def asked(port: int, *headers: str, target: str = "/who") -> Answer:
    peer = await Peer.connect(port)
    await peer.send("\r\n".join([f"GET {target} HTTP/1.1", *headers, "", ""]))
    return await peer.answer()


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == f"/problems/{code}"
    assert answer.json()["errors"][0]["field"] == "Host"
    assert answer.json()["errors"][0]["remedy"]


@pytest.mark.parametrize(
    "host",
    [
        "shop.example.com",
        "shop.example.com:8001",
        "SHOP.Example.COM",
        "shop.example.com.",
        "shop.example.com.:443",
        "127.0.0.1:8001",
        "[::1]",
        "[::1]:8001",
        "[0:0:0:0:0:0:0:1]:8001",
    ],
)
async def test_a_host_is_the_same_however_it_is_written(port: int, host: str) -> None:
    assert (await asked(port, f"Host: {host}")).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "example.com",
        "a.shop.example.com",
        "shop.example.com.evil.com",
        "shop.example.com..",
        "127.0.0.2",
        "2130706433",
        "[::2]:8001",
        "[::ffff:127.0.0.1]",
    ],
)
async def test_another_host_is_answered_with_421(port: int, host: str) -> None:
    refused(await asked(port, f"Host: {host}"), 421, "misdirected_request")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host:",),
        ("Host: shop.example.com", "Host: shop.example.com"),
        ("Host: shop.example.com", "host: evil.com"),
        ("Host: shop.example.com, evil.com",),
        ("Host: evil.com@shop.example.com",),
        ("Host: shop.example.com/evil.com",),
        ("Host: shop.example.com:port",),
        ("Host: shop.example.com:8001:8002",),
        ("Host: ::1",),
        ("Host: [shop.example.com]",),
        ("Host: sh\u00f6p.example.com",),
    ],
    ids=repr,
)
async def test_a_request_names_one_host_that_can_be_read(port: int, headers: tuple[str, ...]) -> None:
    refused(await asked(port, *headers), 400, "malformed_host")


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
async def test_the_host_in_the_target_counts_whatever_the_header_says(port: int, scheme: str) -> None:
    ours, other = f"{scheme}://shop.example.com:8001/who", f"{scheme}://evil.com/who"
    assert (await asked(port, "Host: evil.com", target=ours)).status == 200
    refused(await asked(port, "Host: shop.example.com", target=other), 421, "misdirected_request")
    smuggled = f"{scheme}://evil.com@shop.example.com/who"
    assert (await asked(port, "Host: shop.example.com", target=smuggled)).status == 400


@pytest.mark.parametrize("target", ["*", "shop.example.com:443", "ftp://shop.example.com/who"])
async def test_a_target_that_is_neither_a_path_nor_a_url_is_refused(port: int, target: str) -> None:
    answer = await asked(port, "Host: shop.example.com", target=target)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("given", ["", "*", "http://shop.example.com", "shop.example.com:8001", "a b"])
def test_a_setting_that_names_no_hosts_is_refused_by_its_name(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDER_DATABASE_URL", "postgresql://nobody:secret@localhost/none")
    monkeypatch.setenv("ORDER_ALLOWED_HOSTS", given or ",")
    with pytest.raises(SettingsError, match="ORDER_ALLOWED_HOSTS is malformed"):
        load(ServiceSettings, prefix="ORDER_")


def test_hosts_in_the_setting_are_read_as_those_in_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_DATABASE_URL", "postgresql://nobody:secret@localhost/none")
    monkeypatch.setenv("ORDER_ALLOWED_HOSTS", "Shop.Example.com., ::1,[::0:2],10.0.0.7")
    hosts = load(ServiceSettings, prefix="ORDER_").http_limits.allowed_hosts
    assert hosts == {"shop.example.com", "::1", "::2", "10.0.0.7"}


def test_a_host_can_be_read_or_not() -> None:
    assert canonical_host("a" * 30_000) == "a" * 30_000
    assert canonical_host("." * 30_000 + "!") is None
