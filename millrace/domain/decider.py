"""The decider: a domain as two pure functions.

After Jérémie Chassaing, "Functional Event Sourcing Decider" (2021): `decide(state, command)` gives the
events that follow, `evolve(state, event)` the next state. No I/O, no clock, no randomness: what they need is
in the command.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from millrace.domain.errors import MillraceError
from millrace.domain.events import DomainEvent

S = TypeVar("S")
C = TypeVar("C")


class CommandRefused(MillraceError):
    """The domain says no. `code` is stable and machine-readable, the message is for people.

    `code` becomes the last part of the problem's type over HTTP, `details` its extension members.
    `current_version` is the version of the stream that it was decided on, once that is known.
    """

    current_version: int | None = None

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True, slots=True)
class Decider(Generic[S, C]):
    """A domain: where a stream starts, what follows from a command, what an event changes.

    `decide` returns the events that follow (none when there is nothing left to do) or raises CommandRefused.
    """

    initial: S
    decide: Callable[[S, C], Sequence[DomainEvent]]
    evolve: Callable[[S, DomainEvent], S]

    def fold(self, events: Iterable[DomainEvent], state: S | None = None) -> S:
        """The state after `events`, from `state` or from the start."""
        current = self.initial if state is None else state
        for event in events:
            current = self.evolve(current, event)
        return current


class Repeated(Enum):
    """The type of REPEATED."""

    REPEATED = "repeated"


REPEATED: Final = Repeated.REPEATED
"""What a `command_of` (millrace/operations/definition.py) answers for an event that a consumer of the service
appends by itself when it reads what the event follows from. No command stands for it: it is dropped from a
fork, and the consumer decides again.

Two things follow for a restore. The event may be one half of a transaction, so it is dropped even if the tail
does not touch its stream, and what follows it in its stream is decided again. And on the fork the consumer's
rows moved in the transaction that appended it, so they go back too: else the consumer takes what it should
read again for a duplicate.
"""
