"""The audit of the whole platform: clean beside live traffic, and to the last event when it has come to
rest."""

import asyncio
import json

from tests.e2e.audit import audit, audit_all
from tests.e2e.platform import OPERATOR, RECOVERY, Customer, Platform
from tests.stacks import AnyStack
from tests.support import eventually

LEFT_BY_OTHERS = {"delayed"}  # e-mails that nobody takes, from other tests
PAUSE = 0.1  # seconds between two orders of a customer


async def test_audits_are_clean_beside_live_traffic_and_find_nothing_left_after_it(
    platform: Platform, running_stack: AnyStack
) -> None:
    plenty, scarce = await platform.list_product(stock=10_000), await platform.list_product(stock=3)
    stop = asyncio.Event()

    async def shop(customer: Customer) -> None:
        """Orders of every fate: confirmed, rejected, cancelled at once, shipped."""
        number = 0
        while not stop.is_set():
            number += 1
            order_id = await platform.placed(customer, scarce if number % 5 == 0 else plenty)
            if number % 3 == 0:
                await platform.command(f"/orders/{order_id}/cancel", {}, customer.headers)
            elif number % 7 == 0:
                await platform.command(f"/orders/{order_id}/ship", {"carrier": "DHL"}, OPERATOR)
            await asyncio.sleep(PAUSE)

    shopping = [asyncio.create_task(shop(await platform.register())) for _ in range(3)]
    await audit_all(running_stack)  # five times: tests/integration/test_audit.py
    stop.set()
    await asyncio.gather(*shopping)

    async def all_mails_are_sent() -> bool:  # the last thing that happens to an order
        assert not (await audit(running_stack, "notification")).keys() - LEFT_BY_OTHERS
        return True

    await eventually(all_mails_are_sent, RECOVERY, "an audit of the notifications without anything pending")
    pending = await audit_all(running_stack)
    assert not [kind for kinds in pending.values() for kind in kinds.keys() - LEFT_BY_OTHERS]


async def test_an_audit_without_its_database_is_no_clean_audit(platform: Platform, stack: AnyStack) -> None:
    await stack.stop("postgres-user")

    ran = await stack.tool("user", "audit", "--json")

    assert ran.code == 2
    assert "no database answers" in ran.err
    assert ran.out == ""


async def test_the_report_says_up_to_where_it_looked(running_stack: AnyStack) -> None:
    report = json.loads((await running_stack.tool("inventory", "audit", "--json")).out)

    assert report["snapshot"]["ends"]["inventory.events"].keys() == {str(number) for number in range(12)}
    assert report["snapshot"]["head"] >= report["snapshot"]["relayed"]
    assert [check["name"] for check in report["checks"]] == [
        "store → topic",
        "store",
        "consumers",
        "stock adds up",
        "one answer an order",
        "read model stock_v1",
    ]
