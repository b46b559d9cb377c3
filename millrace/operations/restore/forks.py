"""What becomes of events that were appended to a restored store before anybody noticed. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from millrace.domain.decider import REPEATED, CommandRefused
from millrace.domain.events import CanarySent, DomainEvent, RecordedEvent
from millrace.domain.stream_kind import StreamKind


class ForkOutcome(StrEnum):
    """What became of a fork event."""

    KEPT = "kept"
    """The tail does not touch its stream: it stays as it is, at a new position."""
    APPENDED = "appended"
    """Its decider accepts it behind the tail."""
    ALREADY_SO = "already so"
    """The tail has its effect."""
    REFUSED = "refused"
    """A person must decide."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of `event`. `version`: the one that it gets; None when it is not appended. `decided`: what
    its decider made of it, which may differ from what it said before. `detail` says why, for people."""

    event: RecordedEvent
    outcome: ForkOutcome
    version: int | None = None
    decided: DomainEvent | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """A stream that the tail touches, with the tail: the state that fork events are decided on."""

    version: int
    state: Any


@dataclass(frozen=True)
class Forks:
    """Decides about all fork events of one store.

    `bases`: the streams that the tail touches. `tail_ids`: the ids of the tail's events. `kinds`: how streams
    are folded.
    """

    kinds: Sequence[StreamKind]
    bases: Mapping[str, Base]
    tail_ids: Collection[UUID]

    def decide(self, fork: Sequence[RecordedEvent]) -> list[Decision]:
        """One decision for each event of `fork`, which is in the order of positions, and so is the result."""
        streams: dict[str, list[RecordedEvent]] = defaultdict(list)
        for event in fork:
            streams[event.stream_id].append(event)
        touched = [
            one
            for stream_id in self.bases.keys() & streams.keys()
            for one in self._behind_tail(streams.pop(stream_id), self.bases[stream_id])
        ]
        decided = {one.event.position: one for one in touched + self._beside_tail(streams, touched)}
        return [decided[event.position] for event in fork]

    def _beside_tail(
        self, streams: Mapping[str, Sequence[RecordedEvent]], touched: Sequence[Decision]
    ) -> list[Decision]:
        """The streams that are the fork's alone. What a consumer appended there is kept only with all else
        that the same cause led to: an event that is not kept takes the others with it, and what follows these
        in their streams."""
        halved = self._halved(touched)
        while True:
            decisions = [one for events in streams.values() for one in self._untouched(events, halved)]
            more = halved | self._halved(decisions)
            if more == halved:
                return decisions
            halved = more

    def _halved(self, decisions: Iterable[Decision]) -> set[str | None]:
        """The causes of which a consumer's event is not kept."""
        return {
            one.event.metadata.causation_id
            for one in decisions
            if one.outcome is not ForkOutcome.KEPT and self._command(one.event) is REPEATED
        }

    def _untouched(self, events: Sequence[RecordedEvent], halved: Collection[str | None]) -> list[Decision]:
        """The stream is the fork's alone: it stays as it is, up to the first event that can't."""
        decisions: list[Decision] = []
        for event in events:
            if event.event_type == CanarySent.event_type:
                decisions.append(_canary(event))
            elif decisions and decisions[-1].outcome is not ForkOutcome.KEPT:
                decisions.append(_refused(event, "an event in front of it in its stream was not kept"))
            elif event.event_id in self.tail_ids:
                decisions.append(_same_request(event))
            elif event.metadata.causation_id in halved and self._command(event) is REPEATED:
                decisions.append(_refused(event, _HALF))
            else:
                decisions.append(Decision(event, ForkOutcome.KEPT, event.version))
        return decisions

    def _behind_tail(self, events: Sequence[RecordedEvent], base: Base) -> list[Decision]:
        """The tail has given the stream's versions to other events: each event is decided again behind it."""
        decisions: list[Decision] = []
        version, state = base.version, base.state
        kind = self._kind(events[0].stream_id)
        while len(decisions) < len(events):
            rest = events[len(decisions) :]
            made = self._decide_again(kind, rest, version, state)
            decisions += made
            for one in made:
                if one.decided is not None and kind is not None:
                    version, state = version + 1, kind.decider.evolve(state, one.decided)
        return decisions

    def _decide_again(
        self, kind: StreamKind | None, rest: Sequence[RecordedEvent], version: int, state: Any
    ) -> list[Decision]:
        """About the first event of `rest`, and the others that one command led to with it."""
        event = rest[0]
        if event.event_type == CanarySent.event_type:
            return [_canary(event)]
        if event.event_id in self.tail_ids:
            return [_same_request(event)]
        command = self._command(event)
        if kind is None or command is None:
            return [_refused(event, f"{event.event_type} names no command that could be decided again")]
        if command is REPEATED:
            return [_refused(event, _HALF)]
        try:
            decided = kind.decider.decide(state, command)
        except CommandRefused as refusal:
            return [_refused(event, refusal.message)]
        if not decided:
            return [Decision(event, ForkOutcome.ALREADY_SO, detail="the stream is in that state already")]
        together = rest[: len(decided)]
        if [one.event_type for one in together] != [one.event_type for one in decided]:
            names = ", ".join(one.event_type for one in decided)
            return [_refused(event, f"behind the tail its command leads to {names}")]
        return [
            Decision(one, ForkOutcome.APPENDED, version + nth, again)
            for nth, (one, again) in enumerate(zip(together, decided, strict=True), start=1)
        ]

    def _kind(self, stream_id: str) -> StreamKind | None:
        return next((kind for kind in self.kinds if stream_id.startswith(kind.prefix)), None)

    def _command(self, event: RecordedEvent) -> Any:
        kind = self._kind(event.stream_id)
        if kind is None or event.event_type == CanarySent.event_type:
            return None
        try:
            return kind.command_of(event.event)
        except ValueError:  # nothing here can decode it
            return None


_HALF = (
    "it is one half of what a consumer decided; the other half meets the tail, so both are left to a person"
)


def _refused(event: RecordedEvent, why: str) -> Decision:
    return Decision(event, ForkOutcome.REFUSED, detail=why)


def _canary(event: RecordedEvent) -> Decision:
    return Decision(event, ForkOutcome.ALREADY_SO, detail="a canary")


def _same_request(event: RecordedEvent) -> Decision:
    return Decision(
        event, ForkOutcome.ALREADY_SO, detail="the same request was carried out before, in the tail"
    )
