"""Reactions: which event of which other service leads to which command here. A saga reads top to bottom.

    saga = Reactions(name="order-service.saga", decider=ORDER)

    @saga.on(StockReserved)
    def confirm(event: StockReserved) -> On:
        return On(order_stream(event.order_id), ConfirmOrder())

A reaction is a pure mapping; loading, deciding and appending is the unit of work's business. Who wants to
decide a whole batch at once registers a batch handler instead:

    @reservations.batch(OrderCreated, OrderCancelled)
    async def reserve(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None: ...

Either may have one more parameter, `settings`: it gets those that its service was started with.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Generic, Protocol, TypeVar, overload

from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.decider import C, Decider, S
from millrace.domain.events import DomainEvent, RecordedEvent

E = TypeVar("E", bound=DomainEvent)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class On:
    """On this stream, this command."""

    stream_id: str
    command: Any


Reaction = On | Iterable[On] | None


class BatchFunction(Protocol):
    """What handles a batch: events of one or more streams, in order within each, in one transaction."""

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None: ...


class ConfiguredBatchFunction(Protocol):
    """The same, which is given its service's settings too."""

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork, settings: Any) -> None: ...


B = TypeVar("B", bound=BatchFunction | ConfiguredBatchFunction)


class Register(Protocol[E]):
    """Takes a function from an event, or from an event and the settings, to what should be done."""

    @overload
    def __call__(self, reaction: Callable[[E], Reaction]) -> Callable[[E], Reaction]: ...
    @overload
    def __call__(self, reaction: Callable[[E, Any], Reaction]) -> Callable[[E, Any], Reaction]: ...


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
        self._reactions: dict[str, Callable[..., Reaction]] = {}
        self._batch: Callable[..., Awaitable[None]] | None = None
        self._classes: dict[str, type[DomainEvent]] = {}

    @property
    def handles(self) -> frozenset[str]:
        """The event types that somebody registered for."""
        return frozenset(self._classes)

    @property
    def event_classes(self) -> list[type[DomainEvent]]:
        """The same as classes, in the order of registration."""
        return list(self._classes.values())

    def with_settings(self, settings: Any) -> "Reactions[S, C]":
        """The same reactions, of which those that have a parameter `settings` get these."""
        bound = copy(self)
        bound._reactions = {name: _with(settings, one) for name, one in self._reactions.items()}
        bound._batch = self._batch and _with(settings, self._batch)
        return bound

    def on(self, *event_classes: type[E]) -> Register[E]:
        """Registers a function from an event to what should be done: one On, several, or None for nothing."""

        def register(reaction: Any) -> Any:
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


def _with(settings: Any, function: Callable[..., T]) -> Callable[..., T]:
    wants = "settings" in signature(function).parameters
    return partial(function, settings=settings) if wants else function
