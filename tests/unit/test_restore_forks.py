"""What becomes of events that were appended to a restored store before anybody noticed:
millrace/operations/restore/forks.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from millrace.domain.decider import REPEATED, CommandRefused, Decider
from millrace.domain.events import CanarySent, DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.domain.stream_kind import StreamKind
from millrace.operations.restore.forks import Base, Decision, ForkOutcome, Forks

KEPT, APPENDED, ALREADY_SO, REFUSED = ForkOutcome


class Deposited(DomainEvent, version=1):
    amount: int


class Withdrawn(DomainEvent, version=1):
    amount: int
    closing: bool = False


class Closed(DomainEvent, version=1):
    pass


class InterestPaid(DomainEvent, version=1):
    """A consumer appends it, to several accounts at once."""

    amount: int = 1


class Corrected(DomainEvent, version=1):
    """A person said so: no command stands for it."""

    amount: int


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0
    closed: bool = False


def decide(account: Account, command: DomainEvent) -> Sequence[DomainEvent]:
    """Commands are named by the event that they lead to; a Withdrawn that closes empties the account."""
    match command:
        case Closed():
            return [] if account.closed else [command]
        case _ if account.closed:
            raise CommandRefused("closed", "the account is closed")
        case Withdrawn(closing=True):
            emptied = [Withdrawn(amount=account.balance, closing=True)] if account.balance else []
            return [*emptied, Closed()]
        case Withdrawn(amount=amount) if amount > account.balance:
            raise CommandRefused("overdrawn", f"the account holds {account.balance}")
        case _:
            return [command]


def evolve(account: Account, event: DomainEvent) -> Account:
    match event:
        case Withdrawn(amount=amount):
            return replace(account, balance=account.balance - amount)
        case Closed():
            return replace(account, closed=True)
        case _:
            return replace(account, balance=account.balance + getattr(event, "amount", 0))


def command_of(event: DomainEvent) -> Any:
    match event:
        case InterestPaid():
            return REPEATED
        case Corrected():
            return None
        case _:
            return event


REGISTRY = EventRegistry([Deposited, Withdrawn, Closed, InterestPaid, Corrected])
KINDS = [StreamKind("account-", Decider(Account(), decide, evolve), command_of=command_of)]


@dataclass
class Fork:
    """The store had ten events; the backup came back, and these were appended."""

    events: list[RecordedEvent]

    def append(
        self,
        stream: str,
        version: int,
        event: DomainEvent,
        *,
        cause: str | None = None,
        registry: Any = REGISTRY,
    ) -> RecordedEvent:
        recorded = RecordedEvent(
            position=11 + len(self.events),
            stream_id=stream,
            version=version,
            event_id=new_id(),
            event_type=event.event_type,
            schema_version=1,
            data=event.to_json(),
            metadata=Metadata("correlation", cause),
            recorded_at=datetime(2026, 11, 28, tzinfo=UTC),
            registry=registry,
        )
        self.events.append(recorded)
        return recorded

    def decide(self, *, tail_ids: Sequence[UUID] = (), **bases: tuple[int, Account]) -> list[Decision]:
        """`bases`: account (without its prefix) -> its version and state with the tail."""
        known = {f"account-{name}": Base(*base) for name, base in bases.items()}
        return Forks(KINDS, known, set(tail_ids)).decide(self.events)

    def outcomes(self, *, tail_ids: Sequence[UUID] = (), **bases: tuple[int, Account]) -> list[ForkOutcome]:
        return [one.outcome for one in self.decide(tail_ids=tail_ids, **bases)]


@pytest.fixture
def fork() -> Fork:
    return Fork([])


def test_a_stream_that_the_tail_does_not_touch_stays_as_it_is(fork: Fork) -> None:
    fork.append("account-new", 1, Deposited(amount=5))
    fork.append("account-old", 8, Corrected(amount=5))
    fork.append("account-new", 2, Withdrawn(amount=500))

    decisions = fork.decide()

    assert [(one.outcome, one.version, one.decided) for one in decisions] == [
        (KEPT, 1, None),
        (KEPT, 8, None),
        (KEPT, 2, None),
    ]


def test_a_command_that_is_accepted_behind_the_tail_is_appended_there(fork: Fork) -> None:
    fork.append("account-a", 3, Deposited(amount=5))
    fork.append("account-a", 4, Withdrawn(amount=15))

    first, second = fork.decide(a=(6, Account(10)))

    assert (first.outcome, first.version, first.decided) == (APPENDED, 7, Deposited(amount=5))
    # Only with the deposit in front of it the account holds enough.
    assert (second.outcome, second.version, second.decided) == (APPENDED, 8, Withdrawn(amount=15))


def test_a_command_that_is_refused_behind_the_tail_is_left_to_a_person_with_the_reason(fork: Fork) -> None:
    fork.append("account-a", 3, Withdrawn(amount=50))
    fork.append("account-a", 4, Deposited(amount=5))

    refused, accepted = fork.decide(a=(6, Account(10)))

    assert (refused.outcome, refused.version, refused.detail) == (REFUSED, None, "the account holds 10")
    assert (accepted.outcome, accepted.version) == (APPENDED, 7)


def test_what_the_tail_has_done_already_is_not_done_again(fork: Fork) -> None:
    fork.append("account-a", 3, Closed())

    assert fork.outcomes(a=(6, Account(closed=True))) == [ALREADY_SO]


def test_an_event_that_names_no_command_is_left_to_a_person(fork: Fork) -> None:
    fork.append("account-a", 3, Corrected(amount=5))
    fork.append("ledger-a", 1, Deposited(amount=5))  # of a kind that the service does not declare
    forks = Forks(KINDS, {"account-a": Base(6, Account()), "ledger-a": Base(2, None)}, set())

    decisions = forks.decide(fork.events)

    assert [one.outcome for one in decisions] == [REFUSED, REFUSED]
    assert "Corrected names no command" in decisions[0].detail


def test_an_event_that_this_program_cannot_read_is_left_to_a_person(fork: Fork) -> None:
    fork.append("account-a", 3, Deposited(amount=5), registry=EventRegistry([]))

    assert fork.outcomes(a=(6, Account())) == [REFUSED]


def test_a_command_that_led_to_two_events_leads_to_both_again(fork: Fork) -> None:
    fork.append("account-a", 3, Withdrawn(amount=10, closing=True))
    fork.append("account-a", 4, Closed())

    decisions = fork.decide(a=(6, Account(25)))

    assert [(one.outcome, one.version, one.decided) for one in decisions] == [
        (APPENDED, 7, Withdrawn(amount=25, closing=True)),  # what the account holds now
        (APPENDED, 8, Closed()),
    ]


def test_a_command_that_leads_to_other_events_than_before_is_left_to_a_person(fork: Fork) -> None:
    fork.append("account-a", 3, Withdrawn(amount=10, closing=True))
    fork.append("account-a", 4, Closed())

    first, second = fork.decide(a=(6, Account(0)))

    assert (first.outcome, first.detail) == (REFUSED, "behind the tail its command leads to Closed")
    assert second.outcome is APPENDED  # a command of its own all the same


def test_half_of_what_a_command_leads_to_is_not_appended(fork: Fork) -> None:
    fork.append("account-a", 3, Withdrawn(amount=10, closing=True))

    assert fork.outcomes(a=(6, Account(25))) == [REFUSED]


def test_a_request_that_the_tail_carried_out_is_not_carried_out_twice(fork: Fork) -> None:
    """A customer repeated a request whose answer was lost with the server: the same event id."""
    repeated = fork.append("account-a", 3, Deposited(amount=5))
    fork.append("account-a", 4, Deposited(amount=6))

    decisions = fork.decide(tail_ids=[repeated.event_id], a=(6, Account(10)))

    assert [(one.outcome, one.version) for one in decisions] == [(ALREADY_SO, None), (APPENDED, 7)]


def test_what_follows_a_repeated_request_in_a_stream_of_its_own_is_left_to_a_person(fork: Fork) -> None:
    """The tail carried the request out in another stream: this one never began."""
    repeated = fork.append("account-b", 1, Deposited(amount=5))
    fork.append("account-b", 2, Withdrawn(amount=5))
    fork.append("account-b", 3, Closed())
    fork.append("account-c", 1, Deposited(amount=5))

    assert fork.outcomes(tail_ids=[repeated.event_id]) == [ALREADY_SO, REFUSED, REFUSED, KEPT]


def test_what_a_consumer_appended_is_kept_where_the_tail_touches_none_of_it(fork: Fork) -> None:
    fork.append("account-a", 3, InterestPaid(), cause="midnight")
    fork.append("account-b", 3, InterestPaid(), cause="midnight")

    assert fork.outcomes(c=(9, Account())) == [KEPT, KEPT]


def test_what_a_consumer_appended_is_not_kept_by_halves(fork: Fork) -> None:
    fork.append("account-a", 3, InterestPaid(), cause="midnight")
    fork.append("account-b", 3, InterestPaid(), cause="midnight")
    fork.append("account-b", 4, Deposited(amount=5))
    fork.append("account-c", 3, InterestPaid(), cause="noon")

    decisions = fork.decide(a=(6, Account()))

    assert [one.outcome for one in decisions] == [REFUSED, REFUSED, REFUSED, KEPT]
    assert decisions[0].detail == decisions[1].detail
    assert "one half of what a consumer decided" in decisions[1].detail


def test_an_event_that_is_not_kept_takes_the_other_half_with_it(fork: Fork) -> None:
    """Also where the tail touches neither: the first half follows a request that the tail carried out
    elsewhere."""
    fork.append("account-c", 1, InterestPaid(), cause="noon")  # decided before what drags it along
    repeated = fork.append("account-a", 1, Deposited(amount=5))
    fork.append("account-a", 2, InterestPaid(), cause="midnight")
    fork.append("account-b", 1, InterestPaid(), cause="midnight")
    fork.append("account-b", 2, InterestPaid(), cause="noon")

    assert fork.outcomes(tail_ids=[repeated.event_id]) == [
        REFUSED,
        ALREADY_SO,
        REFUSED,
        REFUSED,
        REFUSED,
    ]


def test_a_command_with_the_same_cause_as_half_an_effect_is_kept(fork: Fork) -> None:
    """Only what a consumer decides by itself belongs together by its cause."""
    fork.append("account-a", 3, InterestPaid(), cause="midnight")
    fork.append("account-b", 1, Deposited(amount=5), cause="midnight")

    assert fork.outcomes(a=(6, Account())) == [REFUSED, KEPT]


def test_canaries_are_dropped_and_none_is_listed_for_a_person(fork: Fork) -> None:
    fork.append("canary-1", 8, CanarySent())
    fork.append("canary-1", 9, CanarySent())
    fork.append("canary-2", 8, CanarySent())
    fork.append("account-a", 1, CanarySent())
    forks = Forks(KINDS, {"canary-2": Base(9, None), "account-a": Base(3, Account())}, set())

    assert [one.outcome for one in forks.decide(fork.events)] == [ALREADY_SO] * 4


def test_decisions_come_in_the_order_of_positions(fork: Fork) -> None:
    for version in range(1, 4):
        fork.append("account-b", version, Deposited(amount=1))
        fork.append("account-a", version, Deposited(amount=1))

    decisions = fork.decide(a=(6, Account()))

    assert [one.event.position for one in decisions] == [11, 12, 13, 14, 15, 16]
    assert [one.version for one in decisions] == [1, 7, 2, 8, 3, 9]


def test_nothing_was_appended(fork: Fork) -> None:
    assert fork.decide(a=(6, Account())) == []
