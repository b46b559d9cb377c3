"""From measured paths and what is remembered of them to the document. Pure but for the memory that it is given."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from infra.board import document, words
from infra.board.answer import answer
from infra.board.builds import fraction, measured_build
from infra.board.canary import canaries
from infra.board.crowd import Crowds
from infra.board.declared import Declared
from infra.board.document import Eta, Partition, Path, Stage, StageKind, State
from infra.board.happenings import Happenings
from infra.board.listings import (
    group_of,
    listed_parked,
    moment,
    parked_by_consumer,
    relays_of,
    sources_of,
    topic_of,
)
from infra.board.measures import Measure, MeasuredPath, MeasuredStage
from infra.board.path import measure
from infra.board.raw import CopyRow, KafkaView, StoreView, Views
from infra.board.states import Judge, Verdict, of_all, worst


class Assembler:
    """Makes a Board of each pass, and remembers what states need to be told."""

    def __init__(self, declared: Declared, started_at: datetime) -> None:
        self._declared = declared
        self._started_at = started_at
        self._judge = Judge()
        self._crowds = Crowds()
        self._happenings = Happenings()
        self._number = 0

    def board(self, views: Views, *, took: float) -> document.Board:
        """The document of one pass; call it once for each, in order."""
        self._number += 1
        measured = measure(views, self._declared)
        stages = self._stages(measured, views)
        parked = parked_by_consumer(views.stores)
        paths = [self._path(one, stages, parked, views) for one in measured]
        sources = sources_of(views)
        self._happenings.observe(views)
        return document.Board(
            at=views.wall,
            started_at=self._started_at,
            number=self._number,
            took=took,
            answer=answer(views.wall, paths, sources),
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
            marks=self._happenings.marks,
            canaries=canaries(views, measured),
        )

    def _stages(self, paths: Sequence[MeasuredPath], views: Views) -> dict[str, tuple[Stage, Verdict]]:
        """Each stage once, also when several paths share it."""
        stages: dict[str, tuple[Stage, Verdict]] = {}
        keys: set[str] = set()
        self._crowds.begin(views.kafka, sum(one.stages[-1].crowd is not None for one in paths))
        for path in paths:
            for one in path.stages:
                if one.key not in stages:
                    listed = self._crowds.listed(one, views.at, self._judge)
                    keys |= {one.key, *(f"{one.key} {part.partition}" for part in listed.partitions)}
                    stages[one.key] = self._stage(listed, views)
        self._judge.forget(keys)
        self._crowds.forget(keys)
        return stages

    def _stage(self, one: MeasuredStage, views: Views) -> tuple[Stage, Verdict]:
        verdicts = [
            self._judge.observe(f"{one.key} {part.partition}", part, views.at) for part in one.partitions
        ]
        total = self._judge.observe(one.key, one.total, views.at)
        state = of_all(total, verdicts)
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
            text=words.described(
                state,
                measured.pending,
                measured.age,
                event=event,
                expected=total.eta,
                net=total.net_rate,
                lost=measured.lost,
                alive=measured.alive,
            ),
            age=measured.age,
            pending=measured.pending,
            rate_in=total.rate_in,
            rate_out=total.rate_out,
            since=total.since,
            as_of=moment(measured.at, views),
            head=measured.passed,
            eta=total.eta,
            event=event,
            partitions=[
                _partition(part, verdict) for part, verdict in zip(one.partitions, verdicts, strict=True)
            ],
            partition_count=len(one.crowd.numbers) if one.crowd else len(one.partitions),
        )
        return stage, total

    def _path(
        self,
        one: MeasuredPath,
        stages: Mapping[str, tuple[Stage, Verdict]],
        parked: Mapping[tuple[str, str], int],
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
        if one.stages[-1].crowd is not None:
            # A topic's partitions are listed once, not for each group of a crowd.
            shown = [
                _without_partitions(stage) if stage.kind is StageKind.TOPIC else stage for stage in shown
            ]
        consumer = one.group or ""
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
            state=state,
            text=words.described(state, waiting, age),
            age=age,
            pending=None if waiting is None else max(0, waiting - one.twice),
            net_rate=sum(nets) if nets else None,
            eta=_longest([verdict.eta for _, verdict in ends]),
            held_at=slowest.kind if slowest else None,
            parked_streams=parked.get((one.projection.service, consumer), 0),
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
            group_of(name, group, self._declared, self._happenings.rebalances(name))
            for name, group in sorted(kafka.groups.items() if kafka else ())
        ]

    def _build(self, store: StoreView, copy: CopyRow, views: Views) -> document.Build:
        key = f"build {store.service}/{copy.model}/{copy.version}"
        seen = measured_build(store, copy, views, self._declared)
        verdict = self._happenings.judge.observe(key, seen, views.at)
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
    """What tells how far the end of a path is behind: the relay and the end. The offsets in Kafka tell what the consumer
    would read again; they count only where there are no rows."""
    by_rows = any(stage.kind is StageKind.READ_MODEL for stage, _ in stages)
    skipped = {StageKind.STORE, StageKind.TOPIC} | ({StageKind.CONSUMER} if by_rows else set())
    return [one for one in stages if one[0].kind not in skipped]


def _without_partitions(stage: Stage) -> Stage:
    return stage.model_copy(update={"partitions": []})


def _longest(etas: Sequence[Eta | None]) -> Eta | None:
    known = [eta for eta in etas if eta is not None]
    if not known:
        return None
    highs = [eta.high for eta in known]
    high = None if any(one is None for one in highs) else max(one for one in highs if one is not None)
    return Eta(low=max(eta.low for eta in known), high=high)


def _partition(part: Measure, verdict: Verdict) -> Partition:
    return Partition(
        partition=part.partition or 0,
        state=verdict.state,
        text=words.described(
            verdict.state,
            part.pending,
            part.age,
            event=part.event,
            expected=verdict.eta,
            net=verdict.net_rate,
            lost=part.lost,
            alive=part.alive,
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
        eta=verdict.eta,
        event=part.event,
    )
