"""The given/when/then kit for deciders.

    given(order, [order_created]).when(CancelOrder(...)).then([order_cancelled])

No store, no clock: a domain test reads as a sentence of the domain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic

from millrace.domain.decider import C, CommandRefused, Decider, S
from millrace.domain.events import DomainEvent


@dataclass(frozen=True)
class Outcome:
    """What came of a command: events, or a refusal."""

    events: Sequence[DomainEvent] | None
    refusal: CommandRefused | None

    def then(self, expected: Iterable[DomainEvent]) -> None:
        """Exactly these events, in this order."""
        assert self.refusal is None, f"refused: {self.refusal}"
        assert self.events is not None
        assert list(self.events) == list(expected)

    def then_nothing(self) -> None:
        """Accepted, and there was nothing to do."""
        self.then([])

    def then_refused(self, code: str) -> CommandRefused:
        """Refused with this code; returns the refusal for a closer look."""
        assert self.refusal is not None, f"expected a refusal {code!r}, got {self.events}"
        assert self.refusal.code == code, f"refused with {self.refusal.code!r}, not {code!r}"
        return self.refusal


@dataclass(frozen=True)
class Given(Generic[S, C]):
    """A stream's past."""

    decider: Decider[S, C]
    state: S

    def when(self, command: C) -> Outcome:
        """Decide `command` on that past."""
        try:
            return Outcome(self.decider.decide(self.state, command), None)
        except CommandRefused as refusal:
            return Outcome(None, refusal)


def given(decider: Decider[S, C], events: Iterable[DomainEvent] = ()) -> Given[S, C]:
    """The state that `events` (none: a stream that does not exist yet) lead to."""
    return Given(decider, decider.fold(events))
