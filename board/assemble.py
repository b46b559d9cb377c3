"""From measured paths and what is remembered of them to the document. Pure but for the memory that it is
given."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from board import document, formatting
from board.annotations import Annotations
from board.builds import fraction, measured_build
from board.bulk_groups import BulkGroups
from board.canary import canaries
from board.declared import Declared
from board.document import Eta, Partition, Path, Stage, StageKind, State
from board.headline import headline
from board.listings import (
    CONFLICT,
    FOREIGN,
    beginning_of,
    group_of,
    listed_parked,
    moment,
    parked_by_consumer,
    relays_of,
    sources_of,
    stores_of,
    topic_of,
)
from board.measures import Measure, MeasuredPath, MeasuredStage, total_of
from board.observations import CopyRow, KafkaView, StoreView, Views
from board.pace import Pace
from board.path import measure
from board.states import OFFSETS, Judge, Verdict, of_all, worst


class Assembler:
    """Makes a Board of each pass, and remembers what states need to be told."""

    def __init__(self, declared: Declared, started_at: datetime) -> None:
        self._declared = declared
        self._started_at = started_at
        self._judge = Judge()
        self._bulk_groups = BulkGroups()
        self._annotations = Annotations()
        self._number = 0

    def board(self, views: Views, *, took: float) -> document.Board:
        """The document of one pass; call it once for each, in order."""
        self._number += 1
        measured = measure(views, self._declared)
        stages = self._stages(measured, views)
        parked = parked_by_consumer(views.stores)
        paths = [self._path(one, stages, parked, views) for one in measured]
        sources = sources_of(views)
        stores = stores_of(views, self._declared, stages)
        self._annotations.observe(views)
        return document.Board(
            at=views.wall,
            started_at=self._started_at,
            number=self._number,
            took=took,
            headline=headline(views.wall, paths, sources, stores),
            sources=sources,
            paths=paths,
            relays=relays_of(views.stores, self._declared),
            topics=self._topics(views, stages),
            groups=self._groups(views.kafka),
            parked=[
                document.ParkedErrors(
                    service=store.service,
                    consumer=row.consumer,
                    error_class=row.error_class,
                    streams=row.streams,
                    events=row.events,
                    oldest=row.oldest,
                )
                for store in views.stores.values()
                for row in store.parked_counts
            ],
            parked_streams=listed_parked(views.stores),
            builds=[
                self._build(store, copy, views)
                for store in views.stores.values()
                for copy in store.copies
                if copy.copy == "next"
            ],
            marks=self._annotations.marks,
            canaries=canaries(views, measured),
            stores=stores,
        )

    def _stages(self, paths: Sequence[MeasuredPath], views: Views) -> dict[str, tuple[Stage, Verdict]]:
        """Each stage once, also when several paths share it."""
        stages: dict[str, tuple[Stage, Verdict]] = {}
        keys: set[str] = set()
        self._bulk_groups.begin(views.kafka, sum(one.stages[-1].bulk is not None for one in paths))
        for path in paths:
            for one in path.stages:
                if one.key not in stages:
                    listed = self._bulk_groups.listed(one, views.at, self._judge)
                    keys |= {one.key, *(f"{one.key} {part.partition}" for part in listed.partitions)}
                    keys |= {f"{one.key} of {part.owner}" for part in listed.partitions if one.turns}
                    stages[one.key] = self._stage(listed, views)
        self._judge.forget(keys)
        self._bulk_groups.forget(keys)
        return stages

    def _stage(self, one: MeasuredStage, views: Views) -> tuple[Stage, Verdict]:
        paces = self._paces(one, views)
        verdicts = [
            self._judge.observe(
                f"{one.key} {part.partition}",
                part,
                views.at,
                shared=paces.get(part.owner or ""),
                patient=one.ours,
            )
            for part in one.partitions
        ]
        total = self._judge.observe(one.key, one.total, views.at, patient=one.ours)
        # That its service ended is said by the whole; of a partition in which nothing waits it is no news,
        # and hides none.
        telling = [
            verdict
            for part, verdict in zip(one.partitions, verdicts, strict=True)
            if part.pending or not part.ended
        ]
        state = of_all(total, telling)
        if state is State.STOPPED and total.state in OFFSETS and one.total.reached is not None:
            state = (
                total.state
            )  # that it is stopped is said by its rows; only its offsets say what was done to them
        event = next(
            (
                part.event
                for part, verdict in zip(one.partitions, verdicts, strict=True)
                if verdict.state is state and state is State.STUCK and part.event
            ),
            one.total.event,
        )
        measured = one.total
        stage = Stage(
            kind=one.kind,
            name=one.name,
            state=state,
            text=formatting.described(
                state,
                measured.pending,
                measured.age,
                event=event,
                expected=_of_stage(total, verdicts, ours=one.ours),
                net=total.net_rate,
                lost=measured.lost,
                alive=measured.alive,
                refusal=measured.refusal,
                capped=measured.capped,
                ended=measured.ended,
                covered=measured.covered,
            ),
            age=measured.age,
            pending=measured.pending,
            at_least=measured.capped,
            ended=measured.ended,
            rate_in=total.rate_in,
            rate_out=total.rate_out,
            since=total.since,
            as_of=moment(measured.at, views),
            head=measured.passed,
            eta=_of_stage(total, verdicts, ours=one.ours) if state is State.CATCHING_UP else None,
            event=event,
            partitions=[
                _partition(part, verdict, ours=one.ours)
                for part, verdict in zip(one.partitions, verdicts, strict=True)
            ],
            partition_count=len(one.bulk.numbers) if one.bulk else len(one.partitions),
        )
        return stage, total

    def _paces(self, one: MeasuredStage, views: Views) -> dict[str, Pace]:
        """Of each member with all of its partitions together, which it takes one after the other."""
        paces: dict[str, Pace] = {}
        for owner in {part.owner for part in one.partitions if part.owner and one.turns}:
            parts = [part for part in one.partitions if part.owner == owner]
            key = f"{one.key} of {owner}"
            self._judge.observe(key, total_of(parts, views.at, one.total.visible), views.at)
            if (pace := self._judge.pace(key)) is not None:
                paces[owner] = pace
        return paces

    def _path(
        self,
        one: MeasuredPath,
        stages: Mapping[str, tuple[Stage, Verdict]],
        parked: Mapping[tuple[str, str], Mapping[str, int]],
        views: Views,
    ) -> Path:
        mine = [stages[stage.key] for stage in one.stages]
        ends = _counted(mine)
        ages = [stage.age for stage, _ in ends]
        known = [age for age in ages if age is not None]
        age = max(known, default=None) if known else None
        slowest = max(
            (stage for stage, _ in mine if stage.age), key=lambda stage: stage.age or 0.0, default=None
        )
        state = worst(stage.state for stage, _ in mine)
        pending = [stage.pending for stage, _ in ends]
        nets = [verdict.net_rate for _, verdict in ends if verdict.net_rate is not None]
        shown = [
            stage.model_copy(update={"slowest": True}) if stage is slowest else stage for stage, _ in mine
        ]
        if one.stages[-1].bulk is not None:
            # A topic's partitions are listed once, not for each of the bulk groups.
            shown = [
                _without_partitions(stage) if stage.kind is StageKind.TOPIC else stage for stage in shown
            ]
        aside = parked.get((one.projection.service, one.group or ""), {})
        waiting = (
            sum(count for count in pending if count is not None)
            if any(p is not None for p in pending)
            else None
        )
        return Path(
            id=one.id,
            declared=one.declared,
            service=one.projection.service,
            projection=one.projection.name,
            kind=one.projection.kind,
            version=one.version,
            source=one.source,
            topic=one.topic,
            group=one.group,
            beginning=beginning_of(one, views),
            state=state,
            text=_worst_of(state, [stage for stage, _ in mine]).text,
            age=age,
            pending=None if waiting is None else max(0, waiting - one.twice),
            at_least=any(stage.at_least for stage, _ in ends),
            net_rate=None if any(stage.at_least for stage, _ in ends) else sum(nets) if nets else None,
            eta=_longest([stage for stage, _ in ends]) if state is State.CATCHING_UP else None,
            held_at=slowest.kind if slowest else None,
            parked_streams=sum(aside.values()),
            conflicting_streams=aside.get(CONFLICT, 0),
            foreign_records=aside.get(FOREIGN, 0),
            stages=shown,
        )

    def _topics(self, views: Views, stages: Mapping[str, tuple[Stage, Verdict]]) -> list[document.Topic]:
        kafka = views.kafka
        if kafka is None:
            return []
        names = sorted({*self._declared.topics.values(), *kafka.topics})
        return [topic_of(name, kafka, stages.get(f"topic {name}")) for name in names]

    def _groups(self, kafka: KafkaView | None) -> list[document.Group]:
        return [
            group_of(name, group, self._declared, self._annotations.rebalances(name))
            for name, group in sorted(kafka.groups.items() if kafka else ())
        ]

    def _build(self, store: StoreView, copy: CopyRow, views: Views) -> document.Build:
        key = f"build {store.service}/{copy.model}/{copy.version}"
        seen = measured_build(store, copy, views, self._declared)
        verdict = self._annotations.judge.observe(key, seen, views.at)
        return document.Build(
            service=store.service,
            model=copy.model,
            version=copy.version,
            copy_="next",
            building=copy.building,
            built=copy.built_at is not None,
            began_at=copy.began_at,
            position=copy.position if seen.passed is None else seen.passed,
            fraction=fraction(seen),
            rate=verdict.rate_out,
            eta=verdict.eta,
        )


def _counted(stages: Sequence[tuple[Stage, Verdict]]) -> list[tuple[Stage, Verdict]]:
    """What tells how far the end of a path is behind: the relay and the end. The offsets in Kafka tell what
    the consumer would read again; they count only where there are no rows."""
    by_rows = any(stage.kind is StageKind.READ_MODEL for stage, _ in stages)
    skipped = {StageKind.STORE, StageKind.TOPIC} | ({StageKind.CONSUMER} if by_rows else set())
    return [one for one in stages if one[0].kind not in skipped]


def _without_partitions(stage: Stage) -> Stage:
    return stage.model_copy(update={"partitions": []})


def _worst_of(state: State, stages: Sequence[Stage]) -> Stage:
    """The stage whose state is that of the path, and which says it best: the last one, unless another waits
    longer."""
    return max(
        (stage for stage in stages if stage.state is state),
        key=lambda stage: (stage.age or 0.0, stage.kind is not StageKind.STORE),
    )


def _of_stage(total: Verdict, partitions: Sequence[Verdict], *, ours: bool) -> Eta | None:
    """A stage is done when its last partition is: no partition's range ends later. Of ours only the stage has
    one, for a member takes its partitions one after the other."""
    if ours or total.eta is None:
        return total.eta
    return _cover([total.eta, *(one.eta for one in partitions if one.eta)])


def _longest(stages: Sequence[Stage]) -> Eta | None:
    """Of all that have something to do: the whole is done when the last one is."""
    etas = [stage.eta for stage in stages if stage.pending]
    known = [eta for eta in etas if eta is not None]
    if not known:
        return None
    longest = _cover(known)
    return longest if len(known) == len(etas) else longest.model_copy(update={"high": None})


def _cover(etas: Sequence[Eta]) -> Eta:
    """Until all of them are over."""
    highs = [eta.high for eta in etas if eta.high is not None]
    return Eta(low=max(eta.low for eta in etas), high=max(highs) if len(highs) == len(etas) else None)


def _partition(part: Measure, verdict: Verdict, *, ours: bool) -> Partition:
    eta = None if ours else verdict.eta
    return Partition(
        partition=part.partition or 0,
        state=verdict.state,
        text=formatting.described(
            verdict.state,
            part.pending,
            part.age,
            event=part.event,
            expected=eta,
            net=verdict.net_rate,
            lost=part.lost,
            alive=part.alive,
            ended=part.ended,
            covered=part.covered,
        ),
        age=part.age,
        pending=part.pending,
        rate_in=verdict.rate_in,
        rate_out=verdict.rate_out,
        passed=part.passed,
        log_start=part.floor,
        log_end=part.arrived,
        member=part.member,
        since=verdict.since,
        eta=eta,
        event=part.event,
    )
