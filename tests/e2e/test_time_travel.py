"""Time travel on the running platform: every aggregate that an order touches, told by the service that has
it."""

import json
from typing import Any

from tests.e2e.platform import OPERATOR, Platform
from tests.stacks import AnyStack


async def test_what_an_order_did_is_told_by_every_service_that_took_part(
    running_stack: AnyStack, platform: Platform
) -> None:
    async def past(service: str, stream_id: str, *options: str) -> dict[str, Any]:
        ran = await running_stack.tool(service, "replay", "stream", stream_id, "--json", *options)
        assert (ran.code, ran.err) == (0, "")
        document: dict[str, Any] = json.loads(ran.out)
        return document

    customer, sku = await platform.register(), await platform.list_product(stock=4)
    order_id = await platform.placed(customer, sku, 3)
    await platform.becomes(customer, order_id, "confirmed")
    answer = await platform.command(f"/orders/{order_id}/ship", {"carrier": "DHL"}, OPERATOR)
    assert answer.status_code == 200, answer.text
    await platform.stock_becomes(sku, on_hand=1, reserved=0)

    order = await past("order", f"order-{order_id}", "--at-version", "2")
    assert (order["state"]["status"], order["current_version"]) == ("confirmed", 3)
    assert order["events"][1]["changes"] == [{"field": "status", "old": "pending", "new": "confirmed"}]
    assert order["state"]["status"] == (await platform.order_at(customer, order_id, 2))["status"]

    product = await past("inventory", f"product-{sku}", "--last", "1")
    assert product["events"][0]["changes"] == [
        {"field": "on_hand", "old": 4, "new": 1},
        {"field": "reserved", "old": 3, "new": 0},
    ]
    reservation = await past("inventory", f"reservation-{order_id}")
    assert [event["type"] for event in reservation["events"]] == ["StockReserved", "StockDeducted"]

    user = await past("user", f"user-{customer.id}")
    assert customer.email not in json.dumps(user)
