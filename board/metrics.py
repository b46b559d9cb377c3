"""The board for Prometheus: the names that dashboards for kafka-lag-exporter know, and the path's own.

A sample is there as long as the board sees it. What it can't see has no sample (its status is CANT_SEE),
rather than a number that stays as it was: an alert on a missing sample is right, one on a frozen gauge is
not. Labels are names of groups, topics, services and stages; never an id of a client, an event or a person.
"""

import math
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from board.document import Board, Partition, Path, Stage, StageKind, State
from board.headline import Hold, hold
from schemas.registries import REGISTRIES

CLUSTER = "millrace"
_GROUP = ["cluster_name", "group", "topic", "partition"]
_PATH = ["service", "stage", "projection", "topic", "partition"]
_END = ["service", "projection", "topic"]
_TYPES = frozenset(each.event_type for registry in REGISTRIES for each in registry.classes)


def exposition(board: Board | None, accept: str) -> tuple[bytes, str]:
    """The body and its media type, for what the client accepts. Without a board: no samples but the board's
    own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(board))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Families:
    def __init__(self, board: Board | None) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        board = self._board
        yield _gauge(
            "millrace_board_up", "Whether a pass of the board has ended.", [], [([], board is not None)]
        )
        if board is None:
            return
        yield from _groups(board)
        yield from _topics(board)
        yield from _paths(board)
        yield from _parked(board)
        yield from _stores(board)
        yield from _sources(board)


def _gauge(
    name: str, text: str, labels: list[str], samples: list[tuple[list[str], float | None]]
) -> GaugeMetricFamily:
    """A family of what is known."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, float(value))
    return family


def _groups(board: Board) -> Iterator[Metric]:
    lags: dict[tuple[str, str, str], Stage | Partition] = {}
    for path in board.paths:
        for stage in path.stages:
            seen_now = stage.state is not State.CANT_SEE and stage.partitions
            if stage.kind is StageKind.CONSUMER and path.topic and seen_now:
                # Several paths may share a group and a topic; each says the same of a partition.
                lags |= {(stage.name, path.topic, number): each for number, each in _parts(stage)}
    seen = {key: each for key, each in lags.items() if each.state is not State.CANT_SEE}
    rows = [([CLUSTER, group, topic, number], each) for (group, topic, number), each in seen.items()]
    yield _gauge(
        "kafka_consumergroup_group_lag",
        "Records between the committed offset and the end of the partition.",
        _GROUP,
        [(labels, each.pending) for labels, each in rows],
    )
    yield _gauge(
        "kafka_consumergroup_group_lag_seconds",
        "Age of the record at the committed offset, from its commit in the event store; 0 when there is"
        " none.",
        _GROUP,
        [(labels, each.age) for labels, each in rows],
    )
    groups = sorted({group for group, _, _ in seen})
    ages = {name: [p.age for (group, _, _), p in seen.items() if group == name] for name in groups}
    counts = {name: [p.pending for (group, _, _), p in seen.items() if group == name] for name in groups}
    whole = {group for group, _, number in seen if number}  # of others there are only sums
    yield _gauge(
        "kafka_consumergroup_group_max_lag_seconds",
        "The greatest lag of the group's partitions, in seconds.",
        ["cluster_name", "group"],
        [
            ([CLUSTER, name], max((age for age in ages[name] if age is not None), default=None))
            for name in groups
        ],
    )
    yield _gauge(
        "kafka_consumergroup_group_max_lag",
        "The greatest lag of the group's partitions, in records.",
        ["cluster_name", "group"],
        [
            ([CLUSTER, name], max((n for n in counts[name] if n is not None), default=None))
            for name in groups
            if name in whole
        ],
    )
    yield _gauge(
        "kafka_consumergroup_group_sum_lag",
        "The lags of the group's partitions, in records, summed.",
        ["cluster_name", "group"],
        [([CLUSTER, name], sum(n for n in counts[name] if n is not None)) for name in groups],
    )


def _topics(board: Board) -> Iterator[Metric]:
    kafka = any(source.name == "kafka" and source.seen for source in board.sources)
    topics = [topic for topic in board.topics if kafka and topic.exists]
    yield _gauge(
        "kafka_partition_latest_offset",
        "The end of the partition: the offset of the next record.",
        ["cluster_name", "topic", "partition"],
        [
            ([CLUSTER, each.name, str(number)], end)
            for each in topics
            for number, end in each.log_ends.items()
        ],
    )
    yield _gauge(
        "kafka_partition_earliest_offset",
        "The start of the partition: the offset of its first record.",
        ["cluster_name", "topic", "partition"],
        [
            ([CLUSTER, each.name, str(number)], start)
            for each in topics
            for number, start in each.log_starts.items()
        ],
    )


def _paths(board: Board) -> Iterator[Metric]:
    parts = [
        ([path.service, stage.kind.value, path.projection, path.topic or "", number], part)
        for path in board.paths
        for stage in path.stages
        if stage.state is not State.CANT_SEE
        for number, part in _parts(stage)
        if part.state is not State.CANT_SEE
    ]
    yield _gauge(
        "millrace_path_oldest_pending_seconds",
        "Age of the oldest event that has not passed the stage; 0 when there is none.",
        _PATH,
        [(labels, part.age) for labels, part in parts],
    )
    yield _gauge(
        "millrace_path_pending_events",
        "Events that have not passed the stage.",
        _PATH,
        [(labels, part.pending) for labels, part in parts],
    )
    yield _status(board.paths)
    yield _gauge(
        "millrace_path_behind_seconds",
        "How far the end of the path is behind the truth: age of the oldest event that has not reached it.",
        _END,
        [(_end(path), path.age) for path in board.paths if path.state is not State.CANT_SEE],
    )
    yield _gauge(
        "millrace_path_behind_events",
        "Events that have not reached the end of the path.",
        _END,
        [(_end(path), path.pending) for path in board.paths if path.state is not State.CANT_SEE],
    )
    yield _gauge(
        "millrace_path_net_rate",
        "By how many events a second the queue before the end of the path grows; negative: it shrinks.",
        _END,
        [(_end(path), path.net_rate) for path in board.paths if path.state is not State.CANT_SEE],
    )
    yield from _held(board.paths)


def _end(path: Path) -> list[str]:
    return [path.service, path.projection, path.topic or ""]


def _held(paths: list[Path]) -> Iterator[Metric]:
    """What the headline says of a path that is not up to date, in labels: for the texts of alerts.

    The sentence itself would be another series each second. The text of an error stays on the board: it may
    hold anything.
    """
    held = [
        (path, hold(path))
        for path in paths
        if path.declared and path.state not in (State.UP_TO_DATE, State.CANT_SEE)
    ]
    yield _gauge(
        "millrace_path_held_seconds",
        "Since when the path is held up where it is: in which state, at what, by which type of event; NaN:"
        " not known.",
        [*_END, "state", "stage", "name", "held_at", "event_type"],
        [
            (
                [
                    *_end(path),
                    at.stage.state.value,
                    at.stage.kind.value,
                    _name(path, at),
                    at.where,
                    _type(at),
                ],
                math.nan if at.seconds is None else at.seconds,
            )
            for path, at in held
        ],
    )
    yield _gauge(
        "millrace_path_held_attempts",
        "How often the event that holds the path up was tried.",
        _END,
        [
            (_end(path), at.held.event.attempts)
            for path, at in held
            if at.held.event and at.stage.state is State.STUCK
        ],
    )


def _name(path: Path, at: Hold) -> str:
    """Of the stage; who is missing where nobody is there."""
    return (path.group or at.stage.name) if at.stage.state is State.STOPPED else at.stage.name


def _type(at: Hold) -> str:
    """Of the event that is stuck. One that there is: what is in a topic, anybody may have sent."""
    event = at.held.event
    if at.stage.state is not State.STUCK or event is None:
        return ""
    if event.transaction_at is not None:
        return "an open transaction of another producer"
    return event.type if event.type in _TYPES else "unknown"


def _parts(stage: Stage) -> list[tuple[str, Stage | Partition]]:
    """The stage's partitions; as a whole a stage that has none, or doesn't list all: sums count everything
    once."""
    if len(stage.partitions) < stage.partition_count:
        return [("", stage)]
    return [(str(each.partition), each) for each in stage.partitions] or [("", stage)]


def _status(paths: list[Path]) -> Metric:
    return _gauge(
        "millrace_path_status",
        "1 for the state that the stage is in, 0 for all others.",
        ["service", "stage", "projection", "topic", "state"],
        [
            (
                [path.service, stage.kind.value, path.projection, path.topic or "", state.value],
                stage.state is state,
            )
            for path in paths
            for stage in path.stages
            for state in State
        ],
    )


def _parked(board: Board) -> Iterator[Metric]:
    labels = ["service", "consumer", "error_class"]
    rows = [([each.service, each.consumer, each.error_class], each) for each in board.parked]
    yield _gauge(
        "millrace_parked_streams", "Streams that were put aside.", labels, [(at, e.streams) for at, e in rows]
    )
    yield _gauge(
        "millrace_parked_events", "Events that were put aside.", labels, [(at, e.events) for at, e in rows]
    )
    yield _gauge(
        "millrace_parked_oldest_seconds",
        "Age of the oldest of them.",
        labels,
        [(at, e.oldest) for at, e in rows],
    )


def _stores(board: Board) -> Iterator[Metric]:
    yield _gauge(
        "millrace_board_store_refuses_commands",
        "Whether the store takes no commands: it went back, it moved and was not compared with its topic,"
        " or its append lock is held.",
        ["service"],
        [([each.service], each.refuses is not None) for each in board.stores],
    )
    yield _gauge(
        "millrace_board_store_refused_seconds",
        "For how long a store has been refusing commands, and why (behind, moved, held); NaN: not known.",
        ["service", "topic", "why"],
        [
            (
                [each.service, each.topic or "", each.refuses],
                math.nan if each.since is None else each.since,
            )
            for each in board.stores
            if each.refuses
        ],
    )
    yield _gauge(
        "millrace_board_store_lost_streams",
        "Streams of which the service holds effects of events that are lost for good.",
        ["service"],
        [([each.service], each.lost_streams) for each in board.stores],
    )


def _sources(board: Board) -> Iterator[Metric]:
    yield _gauge(
        "millrace_board_source_seen",
        "Whether the last pass saw the server.",
        ["source"],
        [([each.name], each.seen) for each in board.sources],
    )
    yield _gauge(
        "millrace_board_source_last_seen_timestamp_seconds",
        "When the server was seen last, since 1970; absent: not yet.",
        ["source"],
        [([each.name], each.as_of.timestamp()) for each in board.sources if each.as_of],
    )
    yield _gauge(
        "millrace_board_clock_offset_seconds",
        "The server's clock against the board's; positive: it is ahead.",
        ["source"],
        [([each.name], each.clock_offset) for each in board.sources if each.seen],
    )
    yield _gauge("millrace_board_pass_seconds", "How long the last pass took.", [], [([], board.took)])
    yield _gauge(
        "millrace_board_last_pass_timestamp_seconds",
        "When the last pass ended well, since 1970.",
        [],
        [([], (board.passed_at or board.at).timestamp())],
    )
    yield CounterMetricFamily("millrace_board_passes", "Passes since the board started.", value=board.number)
    yield from _canaries(board)


def _canaries(board: Board) -> Iterator[Metric]:
    for name in ("millrace_canary", "millrace_probe"):  # the second is the older name, for one version
        yield from _canaries_as(name, board)


def _canaries_as(name: str, board: Board) -> Iterator[Metric]:
    rows = [([each.service, each.projection, each.topic or ""], each) for each in board.canaries]
    yield _gauge(
        f"{name}_roundtrip_seconds",
        "How long the last canary took through the whole path; absent once the next one takes longer.",
        _END,
        [(labels, each.round_trip) for labels, each in rows],
    )
    yield _gauge(
        f"{name}_waiting_seconds",
        "For how long the oldest canary waits that has not come through; 0 when none does.",
        _END,
        [(labels, each.waiting or 0.0) for labels, each in rows if each.age is not None],
    )
    yield _gauge(
        f"{name}_age_seconds",
        "How long ago the last canary was sent.",
        _END,
        [(labels, each.age) for labels, each in rows],
    )
