"""Waking whoever waits for new events: inside a process by `Wakeup`, between processes by NOTIFY."""

import asyncio


class Wakeup:
    """A coalescing signal with any number of waiters: "something is new since generation n".

    A waiter that must not miss a signal between its check and its wait remembers the generation first:

        seen = wakeup.generation
        while not (work := await look()):
            await wakeup.wait(5.0, since=seen)
            seen = wakeup.generation

    Belongs to one event loop; needs no lock, because nothing here awaits between a check and a change.
    """

    def __init__(self) -> None:
        self._generation = 0
        self._local_generation = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def generation(self) -> int:
        """Goes up with every signal."""
        return self._generation

    @property
    def local_generation(self) -> int:
        """Goes up with the signals of this process only."""
        return self._local_generation

    def notify(self, *, from_elsewhere: bool = False) -> None:
        """Wake everybody who waits. `from_elsewhere`: another process said so (it is not told again)."""
        self._generation += 1
        if not from_elsewhere:
            self._local_generation += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float | None, *, since: int | None = None) -> bool:
        """Wait at most `timeout` seconds (None: for ever) for a signal after generation `since`.

        Without `since` only signals from now on count. Returns whether there was one.
        """
        if since is not None and self._generation > since:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=timeout)
            return waiter.done()
        finally:
            self._waiting.discard(waiter)
