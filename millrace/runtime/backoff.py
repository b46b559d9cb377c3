"""Waiting longer and longer between attempts, and not in step with everybody else."""

import asyncio
from random import Random


class Backoff:
    """Exponential back-off with jitter, in seconds.

    The n-th delay is `initial` × 2ⁿ, at most `maximum`, less a random part of up to `jitter` (0 to 1) of it,
    so that many clients of a fault don't come back at once (Marc Brooker, "Exponential Backoff And Jitter",
    2015). `random` makes the delays repeatable in a test.
    """

    def __init__(
        self,
        *,
        initial: float = 0.1,
        maximum: float = 10.0,
        jitter: float = 0.5,
        random: Random | None = None,
    ) -> None:
        if not 0 < initial <= maximum:
            raise ValueError(f"initial must be above 0 and at most maximum ({maximum}), not {initial}")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {jitter}")
        self._initial = initial
        self._maximum = maximum
        self._jitter = jitter
        self._random = random or Random()
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """How many delays were given since the start or the last `reset`."""
        return self._attempts

    def next_delay(self) -> float:
        """The seconds to wait before the next attempt."""
        # The exponent is bounded: 2.0 ** 2000 is an OverflowError, and a fault may last for days.
        delay = min(self._maximum, self._initial * 2.0 ** min(self._attempts, 60))
        self._attempts += 1
        return delay * (1 - self._jitter * self._random.random())

    def reset(self) -> None:
        """After a success: the next delay is the first one again."""
        self._attempts = 0

    async def wait(self, interrupt: asyncio.Event | None = None) -> bool:
        """Wait for the next delay, or until `interrupt` is set. Returns whether it was interrupted."""
        delay = self.next_delay()
        if interrupt is None:
            await asyncio.sleep(delay)
            return False
        try:
            async with asyncio.timeout(delay):
                await interrupt.wait()
        except TimeoutError:
            return False
        return True
