"""The commands that events stand for: decided again on the same state, an event comes out again."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from millrace.domain.decider import REPEATED, Decider
from millrace.domain.events import DomainEvent, EventRegistry
from millrace.testing import Outcome, given

Life = Sequence[DomainEvent]
CommandOf = Callable[[DomainEvent], Any]


def assert_decides_again(decider: Decider[Any, Any], command_of: CommandOf, life: Life) -> None:
    """Each event of `life` comes out of its command again, if it has one."""
    state = decider.initial
    for event in life:
        command = command_of(event)
        if command is not None and command is not REPEATED:
            assert list(decider.decide(state, command)) == [event]
        state = decider.evolve(state, event)


def redecided(
    decider: Decider[Any, Any], command_of: CommandOf, event: DomainEvent, *, behind: Life
) -> Outcome:
    """What becomes of `event` when it is decided again behind these."""
    return given(decider, behind).when(command_of(event))


def answers(registry: EventRegistry, command_of: CommandOf, lives: Iterable[Life]) -> dict[str, str]:
    """Event type -> the name of its command, REPEATED or None. `lives` must have every event type of
    `registry`."""
    found = {event.event_type: _named(command_of(event)) for life in lives for event in life}
    assert found.keys() == {cls.event_type for cls in registry.classes}, "a life for every event type"
    return found


def _named(command: Any) -> str:
    if command is None:
        return "None"
    return "REPEATED" if command is REPEATED else type(command).__name__
