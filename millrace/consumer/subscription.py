"""What a service does with the events of other services."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args, overload

from millrace.application.reactions import Reactions
from millrace.consumer.beginning import Begins
from millrace.kafka.topics import Sources, Topic
from millrace.read_models.model import ReadModel


@dataclass(frozen=True)
class Subscription:
    """`to` gets the events of the topics of `sources`: topic -> the registry that decodes its events.

    `to`: reactions, which append to the service's own store, or a read model. `max_records`: in one
    transaction at most. `begins`, which reactions must say and a read model must not: "history", they react
    to every event that the topics hold, or "now", to those that are recorded after their first start
    (docs/how-to/new-reaction.md).

    Raises TypeError for a wrong declaration: also if two topics have a type of event in common that `to`
    handles, as it would take one for the other.
    """

    to: Reactions[Any, Any] | ReadModel
    sources: Sources
    begins: Begins | None = None
    max_records: int = 2000

    if TYPE_CHECKING:  # the dataclass has the constructor; this is what may be said to it

        @overload
        def __init__(self, to: ReadModel, sources: Sources, *, max_records: int = ...) -> None: ...
        @overload
        def __init__(
            self, to: Reactions[Any, Any], sources: Sources, *, begins: Begins, max_records: int = ...
        ) -> None: ...
        def __init__(self, *_: Any, **__: Any) -> None: ...

    def __post_init__(self) -> None:
        if not self.sources:
            raise TypeError(f"the subscription of {self.to.name} names no topic")
        self._check_beginning()
        self._check_types()

    def _check_beginning(self) -> None:
        if isinstance(self.to, ReadModel):
            if self.begins is not None:
                raise TypeError(
                    f"{self.to.name}: a read model always begins with the history: leave begins away"
                )
        elif self.begins not in get_args(Begins):
            raise TypeError(
                f'{self.to.name}: begins is {self.begins!r}; say begins="history" (react to every event that'
                f' {self._topics} holds) or begins="now" (to those that are recorded after the first start)'
            )

    def _check_types(self) -> None:
        known: dict[str, set[type]] = defaultdict(set)
        for registry in self.sources.values():
            for cls in registry.classes:
                known[cls.event_type].add(cls)
        if twice := sorted(name for name in self.to.handles if len(known[name]) > 1):
            raise TypeError(
                f"the subscription of {self.to.name}: {', '.join(twice)} means different events in"
                f" {self._topics};"
                " subscribe to each topic by itself"
            )

    @property
    def _topics(self) -> str:
        return ", ".join(topic.name for topic in self.sources)

    def consumer_of(self, service: str) -> str:
        """The name of its consumer: that of the reactions; of a read model each version has a group of its
        own."""
        return self.to.name if isinstance(self.to, Reactions) else f"{service}.{self.to.schema}"

    def moved(self, topics: Mapping[Topic, Topic]) -> "Subscription":
        """The same on other topics, each in place of the one that was declared."""
        sources = {topics.get(topic, topic): registry for topic, registry in self.sources.items()}
        return replace(self, sources=sources)
