"""Waking anyone who waits in the same process."""

import asyncio

from millrace.postgres.wakeup import Wakeup


async def test_a_signal_wakes_everybody_who_waits() -> None:
    wakeup = Wakeup()
    waiting = [asyncio.create_task(wakeup.wait(10)) for _ in range(3)]
    await asyncio.sleep(0)
    wakeup.notify()
    assert await asyncio.gather(*waiting) == [True, True, True]


async def test_without_a_signal_the_wait_ends_at_its_timeout() -> None:
    assert not await Wakeup().wait(0.01)


async def test_a_signal_between_the_look_and_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    seen = wakeup.generation
    wakeup.notify()
    assert await wakeup.wait(0, since=seen)
    assert not await wakeup.wait(0.01, since=wakeup.generation)


async def test_without_a_generation_only_signals_from_now_on_count() -> None:
    wakeup = Wakeup()
    wakeup.notify()
    assert not await wakeup.wait(0.01)


async def test_a_waiter_that_is_cancelled_disturbs_nobody() -> None:
    wakeup = Wakeup()
    one, other = (asyncio.create_task(wakeup.wait(10)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait({one})
    wakeup.notify()
    assert await other


def test_only_signals_of_this_process_count_as_local() -> None:
    wakeup = Wakeup()
    wakeup.notify()
    wakeup.notify(from_elsewhere=True)
    assert (wakeup.generation, wakeup.local_generation) == (2, 1)
