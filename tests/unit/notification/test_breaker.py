"""The breaker: everything waits while an outage lasts, one mail at a time finds its end."""

from random import Random
from uuid import UUID

from millrace.runtime.backoff import Backoff
from notification_service.breaker import DOUBTS, MAIL_SERVER_ACCEPTS_NOTHING, Breaker


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


def test_each_mail_that_fails_makes_the_pause_longer_up_to_a_bound() -> None:
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


def test_a_mail_that_goes_through_closes_it_and_the_next_outage_starts_small() -> None:
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


def test_a_probe_names_the_outage_that_there_is_now_and_moves_no_pause() -> None:
    breaker = breaker_at(Clock())
    breaker.trip("user_service_unavailable")
    breaker.probed("mail_server_unavailable")
    assert (breaker.reason, breaker.pause, breaker.trips) == ("mail_server_unavailable", 1.0, 1)
    breaker.probed(None)
    assert breaker.open  # that a server answers is no proof that it takes mails


CUSTOMERS = [UUID(int=number) for number in range(2 * DOUBTS)]


def test_a_mail_that_is_deferred_again_and_again_opens_nothing() -> None:
    breaker = breaker_at(Clock())
    for attempt in range(100):
        breaker.deferred(CUSTOMERS[0], first=attempt == 0)
    assert (breaker.open, breaker.trips) == (False, 0)


def test_many_mails_to_one_customer_are_one_doubt() -> None:
    breaker = breaker_at(Clock())
    for _ in range(100):
        breaker.deferred(CUSTOMERS[0], first=True)
    assert not breaker.open


def test_first_attempts_at_many_customers_in_a_row_of_which_none_is_taken_are_an_outage() -> None:
    breaker = breaker_at(Clock())
    for customer in CUSTOMERS[: DOUBTS - 1]:
        breaker.deferred(customer, first=True)
    assert not breaker.open
    breaker.doubt(CUSTOMERS[DOUBTS], first=True)
    assert (breaker.reason, breaker.pause, breaker.trips) == (MAIL_SERVER_ACCEPTS_NOTHING, 1.0, 1)


def test_repeated_attempts_are_no_sign_of_an_outage() -> None:
    breaker = breaker_at(Clock())
    for customer in CUSTOMERS:
        breaker.deferred(customer, first=False)
    assert not breaker.open


def test_a_mail_that_is_taken_in_between_ends_all_doubts() -> None:
    breaker = breaker_at(Clock())
    for customer in CUSTOMERS:
        breaker.deferred(customer, first=True)
        breaker.close()
    assert not breaker.open


def test_a_server_that_accepts_nothing_is_tried_until_it_takes_a_mail() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    for customer in CUSTOMERS[:DOUBTS]:
        breaker.deferred(customer, first=True)
    breaker.probed("mail_server_unavailable")
    breaker.probed(None)
    assert breaker.reason == MAIL_SERVER_ACCEPTS_NOTHING  # it answers again, and that was never the trouble
    clock.now += breaker.pause
    breaker.deferred(CUSTOMERS[0], first=False)
    assert breaker.pause == 2.0
    clock.now += breaker.pause
    breaker.close()
    breaker.deferred(CUSTOMERS[0], first=True)
    assert not breaker.open


def test_a_mail_that_is_deferred_shows_that_the_server_is_back() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    breaker.trip("mail_server_unavailable")
    breaker.deferred(CUSTOMERS[0], first=True)  # it began before
    assert breaker.open
    clock.now += breaker.pause
    breaker.deferred(CUSTOMERS[0], first=True)
    assert not breaker.open


def test_a_mail_of_which_nobody_knows_does_not_show_that_the_server_is_back() -> None:
    clock = Clock()
    breaker = breaker_at(clock)
    breaker.trip("mail_server_unavailable")
    clock.now += breaker.pause
    breaker.doubt(CUSTOMERS[0], first=True)
    assert (breaker.reason, breaker.pause) == ("mail_server_unavailable", 2.0)
