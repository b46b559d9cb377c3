"""The answer line: one sentence from the data. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from infra.board import words
from infra.board.document import Answer, Partition, Path, Source, Stage, StageKind, State
from infra.board.states import SEVERITY

_MOVED = {
    State.MOVED_BACK: "were moved back",
    State.AHEAD: "are beyond the end of the topic",
    State.LOSING_DATA: "are of records that are gone from the topic",
}
"""What can be wrong with offsets in Kafka, whatever else is."""


def answer(at: datetime, paths: Sequence[Path], sources: Sequence[Source]) -> Answer:
    """How many seconds each read model is behind the truth, where it is held up, why, and when it will be done."""
    paths = [path for path in paths if path.declared]  # what a tool left in Kafka is shown, and is no news
    moments = [source.as_of for source in sources if source.as_of is not None]
    as_of = min(moments, default=at)
    unseen = [source for source in sources if not source.seen]
    worst = max(paths, key=lambda path: (SEVERITY[path.state], path.age or 0.0), default=None)
    if unseen:
        text, state = _blind(unseen), State.CANT_SEE
        if known := [path for path in paths if path.state not in (State.UP_TO_DATE, State.CANT_SEE)]:
            first = max(known, key=lambda path: (SEVERITY[path.state], path.age or 0.0))
            text = f"{text} Elsewhere, {_held_up(first)}"
    elif worst is None:
        text, state = "There is nothing to look at.", State.CANT_SEE
    elif worst.state is State.UP_TO_DATE:
        text, state = _all_well(paths), State.UP_TO_DATE
    else:
        text, state = _held_up(worst), worst.state
        others = sum(path.state not in (State.UP_TO_DATE, state) or
                     (path.state is state and path is not worst) for path in paths)  # fmt: skip
        if others:
            text = f"{text[:-1]}; {others} more {'is' if others == 1 else 'are'} not up to date."
    text = f"{text[:-1]}{_moved(paths, None if unseen else worst)}."
    parked = sum(path.parked_streams for path in paths)
    if parked:
        text = f"{text[:-1]}; {parked} {'stream is' if parked == 1 else 'streams are'} parked."
    return Answer(text=text, state=state, as_of=as_of, age=max(0.0, (at - as_of).total_seconds()))


def _blind(unseen: Sequence[Source]) -> str:
    """I can't see Kafka for 24 s; the numbers are from 12:03:10."""
    never = [source for source in unseen if source.as_of is None]
    if never:
        return f"I have not seen {_listed(never)} yet: {never[0].problem or 'no answer'}."
    oldest = max(unseen, key=lambda source: source.age or 0.0)
    gone = words.duration(oldest.age or 0.0)
    return f"I can't see {_listed(unseen)} for {gone}; the numbers are from {oldest.as_of:%H:%M:%S}."


def _listed(sources: Sequence[Source]) -> str:
    names = [_spoken(source.name) for source in sources]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _spoken(source: str) -> str:
    kind, _, service = source.partition("-")
    return f"the Postgres of {service}" if kind == "postgres" else kind.capitalize()


def _all_well(paths: Sequence[Path]) -> str:
    slowest = max(paths, key=lambda path: path.age or 0.0)
    if not slowest.age:
        return "All read models are up to date; nothing waits."
    return f"All read models are up to date; slowest: {slowest.projection}, {words.duration(slowest.age)} behind."


def _held_up(path: Path) -> str:
    """orders is 4 min 12 s behind and falling behind (+38 events/s): partition 3 of orders.events is stuck on ..."""
    behind = "behind by an unknown time" if path.age is None else f"{words.duration(path.age)} behind"
    moving = ""
    if path.net_rate is not None and path.net_rate > 0 and path.state is not State.CATCHING_UP:
        moving = f" and falling behind ({words.rate(path.net_rate)})"
    elif path.state is State.CATCHING_UP:
        moving = " and catching up" + (f" ({words.eta(path.eta)})" if path.eta else "")
    cause = _cause(path)
    if path.state is State.LOSING_DATA or (path.state is State.NOT_STARTED and not path.pending):
        return f"{cause}."  # "is up to date", which it is with what there is, would not be the news
    subject = (
        f"{path.projection} is up to date" if path.age == 0 else f"{path.projection} is {behind}{moving}"
    )
    return f"{subject}: {cause}." if cause else f"{subject}."


class Hold(NamedTuple):
    """What holds a path up: the worst of its stages, and there what waits longest."""

    stage: Stage
    held: Stage | Partition
    where: str
    many: bool  # several partitions are stuck; `held` is the one that waits longest

    @property
    def seconds(self) -> float | None:
        """How long already, as far as the board knows."""
        waiting = self.held.event.waiting if self.held.event else None
        known = [seconds for seconds in (self.held.since, waiting) if seconds is not None]
        if self.stage.state is State.STUCK and self.held.event is not None:
            return max(known, default=None)
        return self.held.age


def hold(path: Path) -> Hold:
    """Where the path is held up. Of a path that is not, the stage that would be looked at first."""

    def urgency(one: Stage) -> tuple[int, bool, bool, bool]:
        # A topic that is gone, or not the one it was, is why others are where they are.
        cause = one.kind is StageKind.TOPIC and one.state is not State.UP_TO_DATE
        return SEVERITY[one.state], cause, one.slowest, one.kind is StageKind.CONSUMER

    stage = max(path.stages, key=urgency)
    bad = [part for part in stage.partitions if part.state is stage.state]
    part = max(bad, key=lambda one: one.age or 0.0, default=None)
    everywhere = part is not None and len(bad) == len(stage.partitions) > 1
    held = part or stage
    if stage.state is State.STUCK and held.event is not None and len(bad) > 1:
        where = f"{len(bad)} of {len(stage.partitions)} partitions of {path.topic or stage.name}"
        return Hold(stage, held, where, many=True)
    number = part.partition if part and not everywhere else None
    return Hold(stage, held, words.place(stage.kind, stage.name, number, path.topic), many=False)


def _cause(path: Path) -> str:
    """What holds the path up, where, since when. Empty when its state says it all."""
    found = hold(path)
    if found.stage.state in (State.UP_TO_DATE, State.CATCHING_UP, State.FALLING_BEHIND):
        return ""
    return _why(found, path)


def _moved(paths: Sequence[Path], told: Path | None) -> str:
    """What was done to offsets is said also where something else is worse: it may be why, and it is rarely wanted."""
    said = [
        f"; the offsets of {one.name} {_MOVED[one.state]}"
        for path in paths
        for one in path.stages
        if one.kind is StageKind.CONSUMER and one.state in _MOVED
        and not (path is told and hold(path).stage is one)
    ]  # fmt: skip
    return "".join(dict.fromkeys(said))


def _why(found: Hold, path: Path) -> str:
    stage, held, where, many = found
    since = f" for {words.duration(found.seconds)}" if found.seconds else ""
    match stage.state:
        case State.STUCK if held.event is not None and many:
            return f"{where} are stuck, the oldest on {words.held(held.event)}{since}"
        case State.STUCK if held.event is not None:
            return f"{where} is stuck on {words.held(held.event)}{since}"
        case State.STUCK:
            return f"{where} is stuck{since}"
        case State.STOPPED if stage.kind is StageKind.RELAY:
            return f"{where} does not run, {_waits(held)}{since}"
        case State.STOPPED if path.topic is None:
            return f"the {path.service} service does not run, {_waits(held)}{since}"
        case State.STOPPED:
            return f"{path.group or stage.name} is stopped: nobody reads {path.topic or 'the store'}{since}"
        case State.NOT_STARTED if stage.kind is StageKind.TOPIC:
            return f"the topic {stage.name} does not exist"
        case State.NOT_STARTED:
            return f"{where if stage.kind is StageKind.RELAY else stage.name} never started"
        case State.LOSING_DATA if stage.kind is StageKind.TOPIC:
            return f"{where} has lost events that were sent to it"
        case State.LOSING_DATA:
            return f"{stage.name} has not seen records that are gone from {where}"
        case State.AHEAD:
            return f"{stage.name} committed beyond the end of {where}"
        case State.MOVED_BACK if stage.kind is StageKind.RELAY:
            return f"{where} fills {path.topic} again"
        case State.MOVED_BACK:
            return f"{stage.name} was moved back in {where}"
        case State.REBALANCING:
            return f"{stage.name} is rebalancing"
        case State.CANT_SEE:
            return f"I can't see {where}"
        case _:
            return f"{_waits(held)}{since}, and I have not looked for long enough to say more"


def _waits(held: Stage | Partition) -> str:
    return f"{words.events(held.pending or 0)} {'waits' if held.pending == 1 else 'wait'}"
