"""Waiting for what is on its way: read-your-writes over an eventually consistent model.

A wait ends when it is satisfied, when its time is up, when the client hangs up, or when the process drains: a
stop never waits for waiters. Those who wait for one read model share one look at it, so a thousand cost about
as much as one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Depends, Query, Request

from millrace.domain.errors import MillraceError
from millrace.http.openapi import Header, reads
from millrace.http.problems import too_many, unavailable
from millrace.http.requester import requester_of
from millrace.http.waits import TooManyWaiters, TooManyWaitsOfOne, Waits

LONGEST_WAIT = 30.0
DEFAULT_WAIT = 2.0
# Also look without a signal: the change may be another process's.
_LOOK_AGAIN = 0.1

_PREFER_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)

K = TypeVar("K")


class Signal(Protocol):
    """Something that tells of changes (millrace.postgres.wakeup.Wakeup)."""

    @property
    def generation(self) -> int:
        """Goes up with every change."""

    async def wait(self, timeout: float | None, *, since: int | None = None) -> bool:
        """Return when something changed after generation `since`, at the latest after `timeout` seconds."""


class Versioned(Protocol):
    """A row that knows the stream version it shows."""

    @property
    def version(self) -> int:
        """The stream's version."""


V = TypeVar("V", bound=Versioned)


class ClientHungUp(MillraceError):
    """The client closed the connection while its request waited: nobody reads an answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request waits: `seconds`, but not beyond its client or its process."""

    request: Request
    seconds: float

    def counted(self) -> AbstractContextManager[None]:
        """Counts the request among those that wait. Raises TooManyWaiters, TooManyWaitsOfOne."""
        waits: Waits = self.request.app.state.waits
        return waits.one_of(requester_of(self.request.scope))

    async def wait_for(self, reached: asyncio.Future[None]) -> None:
        """Return when `reached` is done, or no longer waited for. Raises ClientHungUp, and what `reached`
        raises."""
        draining: asyncio.Event = self.request.app.state.draining
        drained = asyncio.create_task(draining.wait())
        hung_up = asyncio.create_task(_hang_up(self.request))
        try:
            ends: set[asyncio.Future[Any]] = {reached, drained, hung_up}
            await asyncio.wait(ends, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if reached.done():
                reached.result()
            elif hung_up.done():
                hung_up.result()
                raise ClientHungUp
        finally:
            drained.cancel()
            hung_up.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # a body that the route doesn't want


class Waiters(Generic[K]):
    """Everybody in this process who waits for one read model.

    `versions` reads which versions it shows of some keys, for all who wait at once: after each signal, and
    ten times a second in case the signal is another process's. Nobody waits, nothing is read. A look that
    fails fails for all of them.
    """

    def __init__(
        self,
        versions: Callable[[Collection[K]], Awaitable[Mapping[K, int]]],
        signal: Signal,
    ) -> None:
        self._versions = versions
        self._signal = signal
        self._waiting: dict[asyncio.Future[None], tuple[K, int]] = {}
        self._joined: dict[asyncio.Future[None], tuple[K, int]] = {}  # since the last look for them
        self._looking: asyncio.Task[None] | None = None
        self._greeting: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def until(self, key: K, version: int, patience: Patience) -> None:
        """Return when the read model shows `version` of `key`, or when nothing is waited for any longer.

        Raises TooManyWaiters, TooManyWaitsOfOne, ClientHungUp, and what the look raised.
        """
        with patience.counted(), self._join(key, version) as reached:
            await patience.wait_for(reached)

    @contextmanager
    def _join(self, key: K, version: int) -> Iterator[asyncio.Future[None]]:
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[reached] = self._joined[reached] = (key, version)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_all(), name="waiters")
        if self._greeting is None or self._greeting.done():
            self._greeting = asyncio.create_task(self._look_for_joined(), name="new waiters")
        try:
            yield reached
        finally:
            self._waiting.pop(reached, None)
            self._joined.pop(reached, None)
            if not reached.cancel():
                reached.exception()  # retrieved, even if the client hung up meanwhile

    async def _look_for_joined(self) -> None:
        """One look for all who joined during the last one: a change before it is seen here, a change after it
        by _look_for_all."""
        while self._joined:
            joined, self._joined = self._joined, {}
            await self._look(joined)

    async def _look_for_all(self) -> None:
        loop = asyncio.get_running_loop()
        seen = self._signal.generation  # who has just joined is looked for apart
        while self._waiting:
            await self._signal.wait(_LOOK_AGAIN, since=seen)
            seen = self._signal.generation  # taken before the look, so that a change during it is not lost
            began = loop.time()
            await self._look(self._waiting)
            # Half of the time at most goes into looking, however many changes and waiters there are.
            await asyncio.sleep(loop.time() - began)

    async def _look(self, waiting: Mapping[asyncio.Future[None], tuple[K, int]]) -> None:
        """One look for all of these."""
        try:
            shown = await self._versions({key for key, _ in waiting.values()})
        except Exception as error:  # noqa: BLE001 - raised again by each that waits
            for reached in waiting:
                if not reached.done():
                    reached.set_exception(error)
            return
        for reached, (key, version) in waiting.items():
            if shown.get(key, 0) >= version and not reached.done():
                reached.set_result(None)


@dataclass(frozen=True, slots=True)
class ReadAfter:
    """`min_version` and `wait` of a GET."""

    min_version: int | None
    patience: Patience

    async def read(
        self,
        read: Callable[[], Awaitable[V | None]],
        waiters: Waiters[K],
        key: K,
        *,
        visible: Callable[[V | None], Awaitable[bool]] | None = None,
    ) -> V | None:
        """What `read` gives of `key`, once it shows `min_version`; None when there is no such thing.

        `visible` is asked before anything is waited for or told: whether the client may know of what is
        shown, None for what is not shown (yet). If it may not, this is None too. Raises Problem 503 naming
        the version reached when the time is up. What doesn't exist has version 0.
        """
        row, wanted = await read(), self.min_version
        if wanted is None or (row is not None and row.version >= wanted):
            return row
        if visible is not None and not await visible(row):
            return None
        if self.patience.seconds:
            try:
                await waiters.until(key, wanted, self.patience)
            except TooManyWaiters:
                detail = "Too many requests are waiting here at the moment: ask again later, or with wait=0."
                raise unavailable(detail, code="too_many_waiting") from None
            except TooManyWaitsOfOne:
                most = self.patience.request.app.state.waits.most_of_one
                detail = f"{most} of your requests are waiting already: ask again later, or with wait=0."
                raise too_many(detail, code="too_many_waits", limit=most) from None
            row = await read()
        reached = 0 if row is None else row.version
        if reached < wanted:
            detail = f"Version {wanted} is not visible yet; reached version {reached}."
            raise unavailable(detail, code="not_visible_yet", version_reached=reached, min_version=wanted)
        return row


async def read_after(
    request: Request,
    min_version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="wait until it shows this version")
    ] = None,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for it")] = DEFAULT_WAIT,
) -> ReadAfter:
    """The dependency behind MinVersion."""
    return ReadAfter(min_version, Patience(request, wait))


@dataclass(frozen=True, slots=True)
class WaitPreference:
    """`Prefer: wait=N` (RFC 7240, 4.3): a preference; whatever was reached is answered."""

    patience: Patience

    @property
    def seconds(self) -> int:
        """How long; 0 without the preference."""
        return int(self.patience.seconds)

    async def until(self, waiters: Waiters[K], key: K, version: int) -> bool:
        """Wait for `version` of `key`. Returns whether the preference was followed: not if too many wait
        already, of this actor or in all."""
        try:
            await waiters.until(key, version, self.patience)
        except (TooManyWaiters, TooManyWaitsOfOne):
            return False
        return True

    def applied(self, followed: bool = True) -> dict[str, str]:
        """The header that says that the preference was followed; none when there was none."""
        return {"Preference-Applied": f"wait={self.seconds}"} if self.seconds and followed else {}


@reads(Header("Prefer", "wait=N: answer when it is settled, after N seconds at most"))
async def wait_preference(request: Request) -> WaitPreference:
    """The dependency behind PreferWait; longer waits are cut to the longest, others' preferences ignored."""
    prefer = ", ".join(request.headers.getlist("prefer"))  # several are one list (RFC 7240, 2)
    wanted = _PREFER_WAIT.search(prefer) if prefer else None
    seconds = min(int(wanted[1]), int(LONGEST_WAIT)) if wanted else 0
    return WaitPreference(Patience(request, seconds))


MinVersion = Annotated[ReadAfter, Depends(read_after)]
PreferWait = Annotated[WaitPreference, Depends(wait_preference)]
