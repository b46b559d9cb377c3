"""The network between a service and Kafka, or its Postgres, is cut in the middle of traffic; all else goes
on."""

import pytest

from infra.compose.stack import ContainerStack
from infra.topology import SERVICES
from tests.chaos.outcome import everything_happened_once
from tests.chaos.traffic import Traffic
from tests.e2e.platform import Platform

pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("audited")]


def peers(service: str) -> tuple[str, str]:
    """What a service can be cut off from."""
    return ("kafka", f"postgres-{service}")


LINKS = [(service.name, other) for service in SERVICES for other in peers(service.name)]


@pytest.mark.parametrize(("service", "other"), LINKS, ids=[f"{service}-{other}" for service, other in LINKS])
async def test_every_acknowledged_order_is_confirmed_once(
    stack: ContainerStack, platform: Platform, service: str, other: str
) -> None:
    async with Traffic(stack) as traffic:
        await stack.cut(service, other)
        assert [peer for peer in peers(service) if not await stack.reaches(service, peer)] == [other]
        await traffic.goes_on(24)
        await stack.start(service)
        await traffic.goes_on()

    await everything_happened_once(platform, traffic, copies=service == "notification")
