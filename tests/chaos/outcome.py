"""What must hold after every fault."""

import asyncio
from collections import Counter

from tests.chaos.traffic import PLENTY, Traffic
from tests.e2e.platform import RECOVERY, Customer, Platform
from tests.support import eventually

KINDS = ("We have your order", "is confirmed")


async def everything_happened_once(platform: Platform, traffic: Traffic, copies: bool = False) -> None:
    """Every acknowledged order is confirmed, once; the stock adds up; one e-mail of each kind for each order.

    `copies`: whether an e-mail may have arrived twice, with the same Message-ID
    (notification_service/README.md).
    """
    await asyncio.gather(
        *(_orders_are_confirmed(platform, who, ids) for who, ids in traffic.acknowledged.items())
    )
    await platform.stock_becomes(traffic.sku, on_hand=PLENTY, reserved=traffic.count)
    for customer, orders in traffic.acknowledged.items():
        await _mails_arrived(platform, customer, len(orders), copies)


async def _orders_are_confirmed(platform: Platform, customer: Customer, acknowledged: list[str]) -> None:
    async def confirmed() -> bool:
        statuses = {order["order_id"]: order["status"] for order in await platform.orders(customer)}
        assert sorted(statuses) == sorted(acknowledged)
        return set(statuses.values()) == {"confirmed"}

    await eventually(confirmed, within=RECOVERY, what=f"{len(acknowledged)} confirmed orders")
    for order_id in acknowledged:
        assert await platform.history(customer, order_id) == ["OrderCreated", "OrderConfirmed"]


async def _mails_arrived(platform: Platform, customer: Customer, orders: int, copies: bool) -> None:
    async def arrived() -> bool:
        mails = await platform.mails(customer.email)
        once = set(mails) if copies else mails
        kinds = Counter(kind for mail in once for kind in KINDS if kind in mail.subject)
        assert kinds == dict.fromkeys(KINDS, orders)
        assert len({mail.id for mail in mails}) == 2 * orders
        return True

    await eventually(arrived, within=RECOVERY, what=f"two e-mails about each of {orders} orders")
