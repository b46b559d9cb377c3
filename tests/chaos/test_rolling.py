"""New containers take over from old ones under load."""

import pytest

from infra.compose.stack import ContainerStack
from tests.chaos.outcome import everything_happened_once
from tests.chaos.traffic import Traffic
from tests.e2e.platform import Platform

pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("audited")]


async def test_customers_notice_nothing_when_order_and_inventory_are_replaced(
    stack: ContainerStack, platform: Platform
) -> None:
    async with Traffic(stack) as traffic:
        await stack.replace("order")
        await traffic.goes_on()
        await stack.replace("inventory")
        await traffic.goes_on()

    assert traffic.failures == []
    await everything_happened_once(platform, traffic)
