"""Where a read model gets its events."""

from dataclasses import dataclass, field

from millrace.domain.events import EventRegistry
from millrace.kafka.topics import Sources
from millrace.read_models.model import ReadModel


@dataclass(frozen=True)
class Feed:
    """A read model and where its events come from: topics, or without any the service's own store.

    `registry` decodes the events of that store, `topics` has what decodes those of each topic. `consumer` is
    the name of the consumer that feeds the live copy from the topics: its group, and the key of its rows in
    the database.
    """

    model: ReadModel
    registry: EventRegistry
    topics: Sources = field(default_factory=dict)
    consumer: str = ""

    def __post_init__(self) -> None:
        if bool(self.topics) != bool(self.consumer):
            raise ValueError(
                f"read model {self.model.name}: topics need a consumer, and a consumer needs topics"
            )

    @property
    def source(self) -> str:
        """For people: `own store`, or the topics."""
        return ", ".join(topic.name for topic in self.topics) or "own store"
