"""The breaker: everything waits while an outage lasts, one probe at a time finds its end."""

from random import Random

from chassis.backoff import Backoff
from notification_service.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker_at(clock: Clock) -> Breaker:
    """Pauses of 1, 2, 4, 4 ... seconds."""
    return Breaker(Backoff(initial=1.0, maximum=4.0, jitter=0.0, random=Random(1)), clock)


def test_it_is_closed_at_first() -> None:
    breaker = breaker_at(Clock())
    assert (breaker.open, breaker.pause, breaker.reason) == (False, 0.0, None)


def test_an_outage_opens_it_for_a_pause() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    assert breaker.trip("mail_server_unavailable") == 1.0
    clock.now += 0.75
    assert (breaker.open, breaker.pause, breaker.reason) == (True, 0.25, "mail_server_unavailable")


def test_each_failed_probe_makes_the_pause_longer_up_to_a_bound() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    pauses = []
    for _ in range(5):
        pauses.append(breaker.trip("down"))
        clock.now += breaker.pause
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_attempts_that_fail_together_count_once() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    assert [breaker.trip("down") for _ in range(4)] == [1.0, 1.0, 1.0, 1.0]
    clock.now += 1.0
    assert breaker.trip("down") == 2.0


def test_a_successful_probe_closes_it_and_the_next_outage_starts_small() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    for _ in range(3):
        breaker.trip("down")
        clock.now += breaker.pause
    breaker.close()
    assert (breaker.open, breaker.pause) == (False, 0.0)
    assert breaker.trip("down") == 1.0


def test_an_attempt_from_before_the_outage_does_not_close_it() -> None:
    breaker = breaker_at(Clock())
    breaker.trip("down")
    breaker.close()
    assert breaker.open
