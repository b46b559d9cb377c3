"""The decider: a domain as two pure functions.

After Jérémie Chassaing, "Functional Event Sourcing Decider" (2021): `decide(state, command)` gives the
events that follow, `evolve(state, event)` the next state. No I/O, no clock, no randomness: what they need is
in the command.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chassis.events import DomainEvent

S = TypeVar("S")
C = TypeVar("C")


class CommandRefused(Exception):
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
