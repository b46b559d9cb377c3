"""The headline: one sentence from the data. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from board import formatting
from board.document import Headline, Partition, Path, Source, Stage, StageKind, State, Store
from board.states import SEVERITY
from millrace.runtime.shorten import readable

_MOVED = {
    State.MOVED_BACK: "were moved back",
    State.AHEAD: "are beyond the end of the topic",
    State.LOSING_DATA: "are of records that are gone from the topic",
}
"""What can be wrong with offsets in Kafka, whatever else is."""
_NOT_ELSEWHERE = frozenset({State.UP_TO_DATE, State.CANT_SEE, State.SUSPENDED})
"""Paths that are well, or whose trouble is that of a server or a store, which is said of these."""


def headline(
    at: datetime, paths: Sequence[Path], sources: Sequence[Source], stores: Sequence[Store] = ()
) -> Headline:
    """How many seconds each read model is behind the truth, where it is held up, why, and when it will be
    done.

    A store that refuses commands comes before all of that. `stores`: those that were seen.
    """
    paths = [path for path in paths if path.declared]  # what a tool left in Kafka is shown, and is no news
    moments = [source.as_of for source in sources if source.as_of is not None]
    as_of = min(moments, default=at)
    unseen = [source for source in sources if not source.seen]
    refusing = [store for store in stores if store.refuses]
    worst = max(paths, key=_urgency, default=None)
    told = None if refusing or unseen else worst
    if refusing or unseen:
        text, state = _above_paths(refusing, unseen, paths), State.SUSPENDED if refusing else State.CANT_SEE
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
    said = [*_unsent(paths), *_ended(paths, told), *_moved(paths, told), *_parked(paths), *_lost(stores)]
    if notes := "; ".join(said):
        # After the command that an operator is to run, a note is a sentence of its own.
        text = f"{text} {notes[0].upper()}{notes[1:]}." if refusing else f"{text[:-1]}; {notes}."
    return Headline(text=readable(text), state=state, as_of=as_of, age=max(0.0, (at - as_of).total_seconds()))


def _above_paths(refusing: Sequence[Store], unseen: Sequence[Source], paths: Sequence[Path]) -> str:
    """Stores that refuse commands, then servers that can't be seen, then the worst of the paths that neither
    explains."""
    said = [_refused(refusing)] if refusing else []
    if unseen:
        said.append(_blind(unseen))
    if known := [path for path in paths if path.state not in _NOT_ELSEWHERE]:
        said.append(f"Elsewhere, {_held_up(max(known, key=_urgency))}")
    return " ".join(said)


def _urgency(path: Path) -> tuple[int, float]:
    return SEVERITY[path.state], path.age or 0.0


def _refused(refusing: Sequence[Store]) -> str:
    """The order store went back: orders.events holds events that it lacks. Commands have been refused for 12
    s. ..."""
    first = max(refusing, key=lambda store: (store.refuses == "behind", store.since or 0.0))
    topic = first.topic or "its topic"
    since = f"have been refused for {formatting.duration(first.since)}" if first.since else "are refused"
    more = len(refusing) - 1
    others = f", and {more} more {'store refuses' if more == 1 else 'stores refuse'} them" if more else ""
    commands = f"Commands {since}{others}."
    if first.refuses == "held":
        return (
            f"Commands of the {first.service} store wait: {first.reason}, for"
            f" {formatting.duration(first.since or 0.0)}{others}."
        )
    if first.refuses == "moved":
        moved = f"The {first.service} store moved to another server or timeline"
        return f"{moved} and has not been compared with {topic} yet. {commands}"
    back = f"The {first.service} store went back: {topic} holds events that it lacks."
    return f"{back} {commands} Run `millrace restore {first.service}`."


def _blind(unseen: Sequence[Source]) -> str:
    """Kafka unreachable for 24 s. Showing data from 12:03:10."""
    never = [source for source in unseen if source.as_of is None]
    if never:
        return f"{_listed(never)} not seen yet: {never[0].problem or 'no answer'}."
    oldest = max(unseen, key=lambda source: source.age or 0.0)
    gone = formatting.duration(oldest.age or 0.0)
    return f"{_listed(unseen)} unreachable for {gone}. Showing data from {oldest.as_of:%H:%M:%S}."


def _listed(sources: Sequence[Source]) -> str:
    names = [_spoken(source.name) for source in sources]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _spoken(source: str) -> str:
    kind, _, service = source.partition("-")
    return f"Postgres of {service}" if kind == "postgres" else kind.capitalize()


def _all_well(paths: Sequence[Path]) -> str:
    slowest = max(paths, key=lambda path: path.age or 0.0)
    if not slowest.age:
        return "All read models are up to date; nothing waits."
    behind = "less than 0.1 s" if slowest.age < formatting.SHORTEST else formatting.duration(slowest.age)
    return f"All read models are up to date; slowest: {slowest.projection}, {behind} behind."


def _held_up(path: Path) -> str:
    """orders is 4 min 12 s behind and growing (+38 events/s): partition 3 of orders.events is stuck on ...

    The state decides what is said of the path, and nothing else does; the numbers only fill it in.
    """
    name, behind, cause = path.projection, _behind(path), _cause(path)
    growing = formatting.rate(path.net_rate) if path.net_rate is not None and path.net_rate > 0 else ""
    match path.state:
        case State.CATCHING_UP:
            return (
                f"{name} is"
                f" {_and(behind, 'catching up')}{f' ({formatting.eta(path.eta)})' if path.eta else ''}."
            )
        case State.FALLING_BEHIND:
            return f"{name} is {_and(behind, 'falling behind')}{f' ({growing})' if growing else ''}."
        case State.LOSING_DATA:
            return f"{cause}."  # how far it is with what there is would not be the news
        case State.NOT_STARTED if not path.pending:
            return f"{cause}."
        case State.STOPPED if not behind:
            return f"{name} is stopped: {cause}."
    if not behind:
        return f"{name}: {cause}."
    return f"{name} is {behind}{f' and growing ({growing})' if growing else ''}: {cause}."


def _behind(path: Path) -> str:
    """Empty when nothing waits, or for no time that can be read."""
    if path.age is None:
        return "behind by an unknown time"
    return "" if path.age < formatting.SHORTEST else f"{formatting.duration(path.age)} behind"


def _and(behind: str, how: str) -> str:
    return f"{behind} and {how}" if behind else how


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
    if stage.state is State.STOPPED and stage.ended:
        return Hold(stage, stage, f"the {path.service} service", many=False)
    number = part.partition if part and not everywhere else None
    return Hold(stage, held, formatting.place(stage.kind, stage.name, number, path.topic), many=False)


def _cause(path: Path) -> str:
    """What holds the path up, where, since when. Empty when its state says it all."""
    found = hold(path)
    if found.stage.state in (State.UP_TO_DATE, State.CATCHING_UP, State.FALLING_BEHIND):
        return ""
    return _why(found, path)


def _moved(paths: Sequence[Path], told: Path | None) -> list[str]:
    """What was done to offsets is said also where something else is worse: it may be why, and it is rarely
    wanted."""
    said = [
        f"the offsets of {one.name} {_MOVED[one.state]}"
        for path in paths
        for one in path.stages
        if one.kind is StageKind.CONSUMER and one.state in _MOVED
        and not (path is told and hold(path).stage is one)
    ]  # fmt: skip
    return list(dict.fromkeys(said))


def _parked(paths: Sequence[Path]) -> list[str]:
    """What was put aside: by a conflict, as no record of ours, and for any other error."""
    conflicting = sum(path.conflicting_streams for path in paths)
    foreign = sum(path.foreign_records for path in paths)
    others = sum(path.parked_streams for path in paths) - conflicting - foreign
    counted = (
        (conflicting, "stream is conflicting", "streams are conflicting"),
        (foreign, "foreign record is parked", "foreign records are parked"),
        (others, "stream is parked", "streams are parked"),
    )
    return [f"{count:,} {one if count == 1 else many}" for count, one, many in counted if count]


def _unsent(paths: Sequence[Path]) -> list[str]:
    """Why relays send nothing to topics that lost events, in their own words, with the remedy: the topic is
    another one, or has another number of partitions."""
    lossy = [
        path
        for path in paths
        if any(one.kind is StageKind.TOPIC and one.state is State.LOSING_DATA for one in path.stages)
    ]
    found = {
        one.name: one.event.error
        for path in lossy
        for one in path.stages
        if one.kind is StageKind.RELAY and one.event is not None and one.event.error
    }
    return [f"the relay of {name} sends nothing: {error}" for name, error in sorted(found.items())]


def _lost(stores: Sequence[Store]) -> list[str]:
    """3 streams of inventory hold effects of lost events"""
    return [
        f"{store.lost_streams:,} {'stream' if store.lost_streams == 1 else 'streams'} of {store.service}"
        f" {'holds' if store.lost_streams == 1 else 'hold'} effects of lost events"
        for store in stores
        if store.lost_streams
    ]


def _why(found: Hold, path: Path) -> str:
    stage, held, where, many = found
    since = f" for {formatting.duration(found.seconds)}" if found.seconds else ""
    match stage.state:
        case State.STUCK if held.event is not None and many:
            return f"{where} are stuck, the oldest on {formatting.held(held.event)}{since}"
        case State.STUCK if held.event is not None:
            return f"{where} is stuck on {formatting.held(held.event)}{since}"
        case State.STUCK:
            return f"{where} is stuck{since}"
        case State.STOPPED if stage.kind is StageKind.RELAY:
            return f"{where} does not run, {_waits(held)}{since}"
        case State.STOPPED if stage.ended:
            return f"{where} does not run{f', {_waits(stage)}{since}' if stage.pending else ''}"
        case State.STOPPED if path.topic is None:
            return f"nobody is there for {stage.name}, {_waits(held)}{since}"
        case State.STOPPED:
            reads = f"has read {path.topic}{since}" if since else f"reads {path.topic}"
            return f"{path.group or stage.name} is stopped: no consumer {reads}"
        case State.NOT_STARTED if stage.kind is StageKind.TOPIC:
            return f"the topic {stage.name} does not exist"
        case State.NOT_STARTED if stage.ended:
            return f"{_does_not_run(path.service)}, and {stage.name} never started"
        case State.NOT_STARTED:
            return f"{where if stage.kind is StageKind.RELAY else stage.name} never started"
        case State.LOSING_DATA if stage.kind is StageKind.TOPIC:
            return f"{where} has lost events that were sent to it"
        case State.LOSING_DATA:
            gone = f"{stage.name} has not seen records that are gone from {where}"
            return f"{gone}, and later events wait there: {_recreate(path.source)}" if path.source else gone
        case State.AHEAD:
            return f"{stage.name} committed beyond the end of {where}"
        case State.MOVED_BACK if stage.kind is StageKind.RELAY:
            return f"{where} fills {path.topic} again"
        case State.MOVED_BACK:
            return f"{stage.name} was moved back in {where}"
        case State.REBALANCING:
            return f"{stage.name} is rebalancing"
        case State.CANT_SEE:
            return f"{where} can't be seen"
        case State.SUSPENDED:
            return f"the {path.source} store refuses commands"
        case _:
            return f"{_waits(held)}{since}, and the board has not looked for long enough to say more"


def _recreate(service: str) -> str:
    """As the consumer's reason and the audit advise."""
    return f"recreate the topic from its store with `millrace replay republish {service} --recreate`"


def _waits(held: Stage | Partition) -> str:
    return formatting.waits(held.pending, capped=isinstance(held, Stage) and held.at_least)


def _does_not_run(service: str) -> str:
    return f"the {service} service does not run"


def _ended(paths: Sequence[Path], told: Path | None) -> list[str]:
    """Services whose process is gone, as long as it is, and whatever else is wrong."""
    gone = {path.service for path in paths if any(stage.ended for stage in path.stages)}
    if told is not None and told.state in (State.STOPPED, State.NOT_STARTED) and hold(told).stage.ended:
        gone.discard(told.service)
    return [_does_not_run(service) for service in sorted(gone)]
