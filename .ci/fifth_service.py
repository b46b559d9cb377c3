"""Builds, runs and removes a fifth service, by the commands of docs/how-to/new-service.md, in a clone of what
is committed.

    .venv/bin/python .ci/fifth_service.py

Proves that a service needs no existing file to be edited by hand: everything passes with it (lint, the unit
tests that look at every service), it works beside the others (an order opens a payment, the board shows it,
audits are clean), and nothing is left of it in the end. Prints what it took.
"""

import asyncio
import sys
import time
from typing import Any
from uuid import uuid4

import httpx
from checkout import Checkout, Failed, cloned, say, url

from infra.demo.shop import Shop
from tests.docs import ROOT, commands_in, section

PAGE = ROOT / "docs" / "how-to" / "new-service.md"
SEEN_WITHIN = 60.0
# The unit tests that look at every service. What the others test is the same with a fifth one.
OF_EVERY_SERVICE = (
    "rooms or manifests or declared or generate or compose or image or stack or prefixes or examples or prose"
    " or docs or registries or schemas or alerts or grafana or metrics or terminal or ports or payment"
)


def main() -> int:
    page = PAGE.read_text()
    building = commands_in(page.partition("\n## ")[0])
    removing = commands_in(section(PAGE, "Removing it"))
    with cloned() as checkout:
        minutes = build_and_use(checkout, building)
        for words in removing:
            checkout.run(*words)
        if left := checkout.changed():
            raise Failed("after the removal git still sees:\n" + "\n".join(left))
    say(
        f"A fifth service: {minutes:.1f} minutes from `millrace new service` to its first event on the board."
    )
    return 0


def build_and_use(checkout: Checkout, commands: list[list[str]]) -> float:
    """Follows the page; returns the minutes from the first command to the first event on the board."""
    started = time.monotonic()
    spent_on_checks = 0.0
    for words in commands:
        began = time.monotonic()
        checkout.run(*words)
        if words[:2] in (["make", "lint"], ["make", "test"]):
            spent_on_checks += time.monotonic() - began
        if words == ["make", "up"]:
            asyncio.run(first_event_is_on_the_board())
            minutes = (time.monotonic() - started - spent_on_checks) / 60
            asyncio.run(an_order_opens_a_payment())
    by_hand = [
        line for line in checkout.changed() if line.startswith(" M") and not generated(checkout, line[3:])
    ]
    if by_hand:
        raise Failed("these files changed, and are not generated:\n" + "\n".join(by_hand))
    lines = sum(
        len(file.read_text().splitlines()) for file in (checkout.path / "payment_service").rglob("*.py")
    )
    say(f"   its package has {lines} lines of Python")
    checkout.run("make", "test", f"ARGS=tests/unit -q -k '{OF_EVERY_SERVICE}'")
    return minutes


def generated(checkout: Checkout, name: str) -> bool:
    text = (checkout.path / name).read_text()
    return "make generate" in text or "# generated: " in text or name.endswith(".lock")


async def first_event_is_on_the_board() -> None:
    headers = {"X-Customer-Id": str(uuid4())}
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
        opened = await http.post(url(8005) + "/payments", json={"subject": "tea"}, headers=headers)
        payment_id = opened.json()["payment_id"]
        read = await http.get(url(8005) + f"/payments/{payment_id}?min_version=1&wait=10", headers=headers)
        if read.json() != {"payment_id": payment_id, "subject": "tea", "version": 1}:
            raise Failed(f"GET /payments: {read.text}")
        deadline = time.monotonic() + SEEN_WITHIN
        while True:
            traced = (await http.get(url(8080) + f"/path/{payment_id}")).json()
            if traced.get("events") and all(hop["state"] == "passed" for hop in traced["events"][0]["hops"]):
                return
            if time.monotonic() > deadline:
                raise Failed(f"the board does not show payment {payment_id}: {traced}")
            await asyncio.sleep(0.5)


async def an_order_opens_a_payment() -> None:
    ports = {"order": 8001, "inventory": 8002, "user": 8004, "mailbox": 8025}
    async with Shop({name: url(port) for name, port in ports.items()}) as shop:
        await shop.stock_product("TEA-1", "Tea", 500, 5)
        customer = await shop.register("Ada", "ada@example.com")
        order = await shop.place(customer, "TEA-1", 1)
    deadline = time.monotonic() + SEEN_WITHIN
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
        while True:
            traced: dict[str, Any] = (await http.get(url(8080) + f"/path/{order['order_id']}")).json()
            if any(event["type"] == "PaymentOpened" for event in traced.get("events", [])):
                return
            if time.monotonic() > deadline:
                raise Failed(f"no payment was opened for order {order['order_id']}: {traced}")
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
