"""Back-off: longer and longer, never in step, never too long."""

import asyncio
from random import Random

import pytest

from millrace.runtime.backoff import Backoff


def test_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(initial=0.1, maximum=1.0, jitter=0)
    assert [backoff.next_delay() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_jitter_only_shortens_and_is_repeatable_with_a_seed() -> None:
    delays = [
        Backoff(initial=1.0, maximum=8.0, jitter=0.5, random=Random(seed)).next_delay() for seed in range(100)
    ]
    assert all(0.5 <= delay <= 1.0 for delay in delays)
    assert len(set(delays)) == 100
    assert delays[7] == Backoff(initial=1.0, maximum=8.0, jitter=0.5, random=Random(7)).next_delay()


def test_after_a_success_it_starts_again() -> None:
    backoff = Backoff(initial=0.1, maximum=1.0, jitter=0)
    backoff.next_delay()
    backoff.next_delay()
    backoff.reset()
    assert (backoff.attempts, backoff.next_delay()) == (0, 0.1)


def test_a_fault_of_many_days_does_not_overflow() -> None:
    backoff = Backoff(initial=0.1, maximum=10.0, jitter=0)
    for _ in range(5000):
        delay = backoff.next_delay()
    assert delay == 10.0


async def test_a_wait_can_be_interrupted() -> None:
    interrupt = asyncio.Event()
    waiting = asyncio.create_task(Backoff(initial=3600, maximum=3600).wait(interrupt))
    await asyncio.sleep(0)
    interrupt.set()
    async with asyncio.timeout(1):
        assert await waiting is True


async def test_a_wait_that_nobody_interrupts_ends_by_itself() -> None:
    assert await Backoff(initial=0.001, maximum=0.001).wait(asyncio.Event()) is False
    assert await Backoff(initial=0.001, maximum=0.001).wait() is False


@pytest.mark.parametrize(("initial", "maximum", "jitter"), [(0, 1, 0), (2, 1, 0), (1, 2, 1.5), (1, 2, -0.1)])
def test_nonsense_is_refused(initial: float, maximum: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Backoff(initial=initial, maximum=maximum, jitter=jitter)
