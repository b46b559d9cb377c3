"""The README's requests, carried out as they are written there."""

import argparse
from collections.abc import Iterator

import httpx
import pytest

from infra.topology import PORTS, SERVICES
from tests.docs import PAGES, ROOT, commands
from tests.stacks import AnyStack

CURL = argparse.ArgumentParser()
CURL.add_argument("url")
CURL.add_argument("-s", "--silent", action="store_true")
CURL.add_argument("-i", "--include", action="store_true")
CURL.add_argument("-X", "--request", default="GET")
CURL.add_argument("-H", "--header", action="append", default=[])
CURL.add_argument("-d", "--data")

OF_A_NEW_SERVICE = ROOT / "docs" / "how-to" / "new-service.md"
"""Its requests go to a service that the reader makes: .ci/fifth_service.py carries them out."""


def requests() -> Iterator[tuple[str, list[str]]]:
    """(page, arguments of curl) for every request in the documentation, in order."""
    for page in PAGES:
        for words in commands(page) if page != OF_A_NEW_SERVICE else []:
            if words[0] == "curl":
                yield str(page.relative_to(ROOT)), words[1:]


async def test_every_request_of_the_documentation_is_answered(running_stack: AnyStack) -> None:
    doors = {PORTS[f"{one.prefix}HTTP"]: running_stack.url(one.name) for one in SERVICES}
    doors |= {PORTS[f"{one.prefix}INTERNAL"]: running_stack.internal_url(one.name) for one in SERVICES}
    carried_out = []
    async with httpx.AsyncClient(timeout=30) as client:
        for page, words in requests():
            curl = CURL.parse_args(words)
            url = httpx.URL(curl.url if "://" in curl.url else f"http://{curl.url}")
            assert url.port is not None
            here = httpx.URL(doors[url.port]).join(url.raw_path.decode())
            headers = dict(header.split(": ", 1) for header in curl.header)
            answer = await client.request(curl.request, here, headers=headers, content=curl.data)
            assert answer.is_success, f"{page}: {words}: {answer.text}"
            carried_out.append(answer)

    assert carried_out
    assert any(answer.json().get("status") == "confirmed" for answer in carried_out)


@pytest.fixture(autouse=True)
async def demo_products(running_stack: AnyStack) -> None:
    """What `make demo` has listed before a reader comes here."""
    headers = {"X-Operator-Id": "e2e"}
    async with httpx.AsyncClient(base_url=running_stack.url("inventory"), headers=headers) as client:
        product = {"sku": "TEA-EARL-GREY", "name": "Tea", "price": {"amount": 890, "currency": "EUR"}}
        (await client.post("/products", json=product)).raise_for_status()
        (await client.post("/products/TEA-EARL-GREY/stock", json={"quantity": 20})).raise_for_status()
