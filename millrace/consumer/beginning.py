"""From where on a consumer with effects acts on the events of a topic. Pure; how it is fixed:
first_start.py."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from millrace.domain.events import RecordedEvent
from millrace.kafka.lineage import Lineage

Begins = Literal["history", "now"]
"""history: it acts on every event of the topic. now: on those that are recorded after it first starts."""

CLOCKS = timedelta(minutes=1)
"""How far the clock of the topic's store may be behind that of the consumer's database."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The choice of one consumer for one topic, as it was fixed at `begun_at` when the consumer first
    started.

    `positions`: epoch -> the last position of that epoch that counts as seen.
    """

    begins: Begins
    begun_at: datetime
    positions: Mapping[UUID, int]

    def is_past(self, epoch: UUID | None, event: RecordedEvent) -> bool:
        """Whether `event` of `epoch` counts as seen, so that no handler gets it.

        The positions alone are not enough: while a topic is filled again, or its relay is behind, it holds
        less than its store, and what comes later is past all the same. That is decided by the time at which
        it was recorded.
        """
        if self.begins == "history":
            return False
        return self.covers(epoch, event.position) or event.recorded_at < self.begun_at - CLOCKS

    def covers(self, epoch: UUID | None, position: int) -> bool:
        """Whether `position` of `epoch` is one of those that the topic had at the first start."""
        return epoch is not None and position <= self.positions.get(epoch, 0)

    def renewed(self, lineage: Lineage) -> "Beginning":
        """The same beginning when the store goes on with the new epoch of `lineage`: what was past stays
        past.

        Of the new epoch everything behind the end of the old one is recorded later, even if its positions
        were given before.
        """
        if lineage.new_epoch in self.positions:
            return self
        kept = min(self.positions.get(lineage.old_epoch, 0), lineage.ended_at)
        return replace(self, positions={**self.positions, lineage.new_epoch: kept})
