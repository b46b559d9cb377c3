"""Each container is stopped, killed, frozen and restarted in the middle of traffic."""

from collections.abc import Awaitable, Callable

import pytest

from infra.topology import SERVICES
from tests.chaos.outcome import everything_happened_once
from tests.chaos.traffic import Traffic
from tests.e2e.platform import Platform
from tests.stacks import AnyStack

pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("audited")]

Fault = Callable[[AnyStack, str, Traffic], Awaitable[None]]

CONTAINERS = ("kafka", *(service.postgres for service in SERVICES), *(service.name for service in SERVICES))

# The one place where "exactly once" ends: a mail server took the e-mail, and that could not be recorded.
MAY_COPY_MAILS = {"notification", "postgres-notification"}


async def stopped(stack: AnyStack, container: str, traffic: Traffic) -> None:
    await stack.stop(container)
    await traffic.goes_on()
    await stack.start(container)


async def killed(stack: AnyStack, container: str, traffic: Traffic) -> None:
    await stack.kill(container)
    await traffic.goes_on()
    await stack.start(container)


async def frozen(stack: AnyStack, container: str, traffic: Traffic) -> None:
    await stack.pause(container)
    await traffic.goes_on()
    await stack.resume(container)


async def restarted(stack: AnyStack, container: str, traffic: Traffic) -> None:
    await stack.restart(container)


@pytest.mark.parametrize("fault", [stopped, killed, frozen, restarted], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("container", CONTAINERS)
async def test_every_acknowledged_order_is_confirmed_once(
    stack: AnyStack, platform: Platform, container: str, fault: Fault
) -> None:
    async with Traffic(stack) as traffic:
        await fault(stack, container, traffic)
        await traffic.goes_on()

    await everything_happened_once(platform, traffic, copies=container in MAY_COPY_MAILS)


async def test_a_service_that_is_killed_while_kafka_is_away_still_publishes_everything(
    stack: AnyStack, platform: Platform
) -> None:
    async with Traffic(stack) as traffic:
        await stack.kill("kafka")
        await traffic.goes_on()
        await stack.kill("order")
        await stack.start("kafka")
        await stack.start("order")
        await traffic.goes_on()

    await everything_happened_once(platform, traffic)
