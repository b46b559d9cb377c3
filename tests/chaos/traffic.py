"""Customers who keep placing orders while the platform is broken under them."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx

from tests.e2e.platform import RECOVERY, Customer, Platform
from tests.stacks import AnyStack
from tests.support import eventually

CUSTOMERS = 4
PAUSE = 0.4  # seconds
TIMEOUT = 3.0  # seconds that a customer waits for an answer
PLENTY = 100_000
WARM_UP = 2 * CUSTOMERS


class Traffic:
    """Orders of one product, placed as good clients do it: a request that got no answer is repeated with its
    key.

    async with Traffic(stack) as traffic:    # orders flow
        ...                                  # break something
        await traffic.goes_on()              # until the customers have met it
        ...                                  # heal it

    At the end every customer has an answer to everything that was asked, so that what was acknowledged is all
    that there is. Fails when that takes longer than RECOVERY seconds, or when an answer is neither 201 nor
    503.
    """

    def __init__(self, stack: AnyStack, pause: float = PAUSE) -> None:
        """`pause`: seconds between a customer's requests."""
        self._pause = pause
        self.platform = Platform(stack.url, timeout=TIMEOUT)
        self.attempts = 0
        """How many requests ended, with whatever outcome."""
        self.failures: list[str] = []
        """Why requests were repeated."""
        self.acknowledged: dict[Customer, list[str]] = {}
        """The ids of the orders that were answered with 201."""
        self.sku = ""
        self._closing = asyncio.Event()
        self._group = asyncio.TaskGroup()

    @property
    def count(self) -> int:
        """How many orders were acknowledged."""
        return sum(map(len, self.acknowledged.values()))

    async def __aenter__(self) -> Self:
        self.sku = await self.platform.list_product(stock=PLENTY)
        self.acknowledged = {await self.platform.register(): [] for _ in range(CUSTOMERS)}
        await self._group.__aenter__()
        for customer in self.acknowledged:
            self._group.create_task(self._place_orders(customer))
        await self.goes_on(WARM_UP)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        try:
            async with asyncio.timeout(RECOVERY):
                await self._group.__aexit__(kind, error, trace)
        finally:
            await self.platform.close()

    async def goes_on(self, attempts: int = 16) -> None:
        """Wait until so many more requests have ended."""
        enough = self.attempts + attempts
        await eventually(lambda: self.attempts >= enough, within=RECOVERY, what=f"{attempts} more requests")

    async def _place_orders(self, customer: Customer) -> None:
        while not self._closing.is_set():
            self.acknowledged[customer].append(await self._insist(customer))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._pause)

    async def _insist(self, customer: Customer) -> str:
        """One order: the same request until there is an answer."""
        key = uuid4().hex
        while True:
            try:
                answer = await self.platform.place(customer, self.sku, key=key)
                self.attempts += 1
                if answer.status_code == 201:
                    return str(answer.json()["order_id"])
                assert answer.status_code == 503, answer.text
                self.failures.append(answer.text)
            except httpx.TransportError as error:
                self.attempts += 1
                self.failures.append(repr(error))
            await asyncio.sleep(self._pause)
