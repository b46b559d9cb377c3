"""Reactions: which event of which other service leads to which command here. A saga reads top to bottom.

    saga = Reactions(name="order-service.saga", decider=ORDER)

    @saga.on(StockReserved)
    def confirm(event: StockReserved) -> On:
        return On(order_stream(event.order_id), ConfirmOrder())

A reaction is a pure mapping; loading, deciding and appending is the unit of work's business. Who wants to decide
a whole batch at once registers a batch handler instead:

    @reservations.batch(OrderCreated, OrderCancelled)
    async def reserve(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None: ...
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from chassis.decider import C, Decider, S
from chassis.events import DomainEvent, RecordedEvent
from chassis.unit_of_work import UnitOfWork

E = TypeVar("E", bound=DomainEvent)


@dataclass(frozen=True, slots=True)
class On:
    """On this stream, this command."""

    stream_id: str
    command: Any


Reaction = On | Iterable[On] | None


class BatchFunction(Protocol):
    """What handles a batch: events of one or more streams, in order within each, in one transaction."""

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None: ...


B = TypeVar("B", bound=BatchFunction)


class Handler(BatchFunction, Protocol):
    """What a consumer is given: a batch function and the event types that it wants to see."""

    @property
    def handles(self) -> frozenset[str]: ...


class Reactions(Generic[S, C]):
    """The reactions of one consumer, called `name` (its group id, and the actor of what it appends).

    They are a `Handler`: event types that nobody registered for never arrive here.
    """

    def __init__(self, name: str, decider: Decider[S, C]) -> None:
        self.name = name
        self.decider = decider
        self._reactions: dict[str, Callable[[Any], Reaction]] = {}
        self._batch: BatchFunction | None = None
        self._classes: dict[str, type[DomainEvent]] = {}

    @property
    def handles(self) -> frozenset[str]:
        """The event types that somebody registered for."""
        return frozenset(self._classes)

    @property
    def event_classes(self) -> list[type[DomainEvent]]:
        """The same as classes, in the order of registration."""
        return list(self._classes.values())

    def on(self, *event_classes: type[E]) -> Callable[[Callable[[E], Reaction]], Callable[[E], Reaction]]:
        """Registers a function from an event to what should be done: one On, several, or None for nothing."""

        def register(reaction: Callable[[E], Reaction]) -> Callable[[E], Reaction]:
            if self._batch is not None:
                raise TypeError(f"{self.name}: has a batch handler, which sees every event")
            for event_class in self._claim(event_classes):
                self._reactions[event_class.event_type] = reaction
            return reaction

        return register

    def batch(self, *event_classes: type[DomainEvent]) -> Callable[[B], B]:
        """Registers the function that is given all events of these types, a batch at a time."""

        def register(function: B) -> B:
            if self._batch is not None or self._reactions:
                raise TypeError(f"{self.name}: either one batch handler or reactions a type, not both")
            self._claim(event_classes)
            self._batch = function
            return function

        return register

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        """Carry out the reactions to `batch` in `unit`; all streams are read with one query."""
        if self._batch is not None:
            await self._batch(batch, unit)
            return
        todo = [(recorded, on) for recorded in batch for on in self._react(recorded)]
        await unit.load(self.decider, (on.stream_id for _, on in todo))
        for recorded, on in todo:
            await unit.execute(self.decider, on.stream_id, on.command, recorded)

    def _react(self, recorded: RecordedEvent) -> Iterable[On]:
        reaction = self._reactions[recorded.event_type](recorded.event)
        if reaction is None:
            return ()
        return (reaction,) if isinstance(reaction, On) else reaction

    def _claim(self, event_classes: Sequence[type[E]]) -> Sequence[type[E]]:
        if not event_classes:
            raise TypeError(f"{self.name}: name the event types")
        for event_class in event_classes:
            if event_class.event_type in self._classes:
                raise TypeError(f"{self.name}: {event_class.event_type} has a reaction already")
            self._classes[event_class.event_type] = event_class
        return event_classes
