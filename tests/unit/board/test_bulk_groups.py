"""Many groups as columns: what the board says of them is what it says when it measures each partition."""

import random
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from board import path
from board.assemble import Assembler
from board.declared import Declared
from board.document import Board, Partition, Stage, StageKind, State
from board.document import Path as PathDocument
from board.observations import GroupView, KafkaView, MemberView, RecordHead, TopicView, Views
from tests.unit.board.views import AT, NOW, TOPIC, TOPIC_ID, head, views

NOBODY = Declared({}, ())
PARTITIONS = 25
PASSES = 50


@dataclass
class Reader:
    """A group's offset in a partition, and what it does with it for the next few passes."""

    chance: random.Random
    end: int = 100
    start: int = 0
    commit: int | None = None
    habit: str = "reads all"
    left: int = 0

    def move(self) -> None:
        """A second passes."""
        if self.left == 0:
            self.habit = self.chance.choice(
                [
                    "reads all",
                    "reads all",
                    "follows",
                    "waits",
                    "slow",
                    "back",
                    "ahead",
                    "lost",
                    "quiet",
                    "to and fro",
                ]
            )
            self.left = self.chance.randrange(1, 12)
        self.left -= 1
        self.end += 0 if self.habit == "quiet" else self.chance.randrange(0, 5)
        at = self.commit or 0
        match self.habit:
            case "reads all" | "quiet":
                self.commit = self.end
            case "follows":
                self.commit = max(at, self.end - 2)
            case "slow":
                self.commit = at + 1
            case "back":
                self.commit, self.habit = max(0, at - 30), "slow"
            case "ahead":
                self.commit = self.end + 3
            case "to and fro":
                self.commit = self.end - self.chance.randrange(0, 5)
            case "lost":
                self.start = min(self.end, at + 10)


@dataclass
class World:
    """One group; half a minute of it is another thing with each seed."""

    seed: int
    width: int = PARTITIONS
    chance: random.Random = field(init=False)
    readers: list[Reader] = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.readers = [Reader(self.chance) for _ in range(self.width)]

    def next(self, number: int) -> Views:
        """What a pass sees."""
        for reader in self.readers:
            reader.move()
        at = AT + number
        stopped, rebalancing = self.seed % 4 == 1 and number > 30, self.seed % 4 == 2 and number % 20 > 17
        owned = range(0 if stopped else self.width - self.seed % 7 * self.width // PARTITIONS)
        members = [MemberView("m", "client", "host", frozenset((TOPIC, n) for n in owned))] if owned else []
        commits = {(TOPIC, n): r.commit for n, r in enumerate(self.readers) if r.commit is not None}
        places = [(n, max(one.commit or 0, one.start)) for n, one in enumerate(self.readers)]
        heads = {(TOPIC, n, at): self._record(at) for n, at in places if at < self.readers[n].end}
        state = "PreparingRebalance" if rebalancing else "Stable" if members else "Empty"
        kafka = KafkaView(
            at, 0.001, {TOPIC: TopicView(TOPIC_ID, {n: r.start for n, r in enumerate(self.readers)},
                                         {n: r.end for n, r in enumerate(self.readers)})},
            {"group": GroupView(state, members, commits)}, heads,
        )  # fmt: skip
        return replace(views(None, None, kafka), at=at, wall=NOW)

    def _record(self, offset: int) -> RecordHead:
        return head(offset, 10_000.0 - offset, event_id=str(offset))  # the younger the later


def consumer(board: Board) -> tuple[PathDocument, Stage]:
    [one] = board.paths
    return one, next(stage for stage in one.stages if stage.kind is StageKind.CONSUMER)


def without_since(part: Partition) -> Partition:
    return part.model_copy(update={"since": None})


@pytest.mark.parametrize("width", [PARTITIONS, 2])  # of many one is always the worst; of few each shows
@pytest.mark.parametrize("seed", range(8))
def test_sums_states_and_the_partitions_that_are_listed_are_those_of_all(
    seed: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, each, columns = World(seed, width), Assembler(NOBODY, NOW), Assembler(NOBODY, NOW)
    states: set[State] = set()
    for number in range(PASSES):
        seen = world.next(number)
        monkeypatch.setattr(path, "MEASURED", 1_000_000)
        whole_path, whole = consumer(each.board(seen, took=0.0))
        monkeypatch.setattr(path, "MEASURED", 0)
        bulk_path, bulk = consumer(columns.board(seen, took=0.0))

        assert (bulk.state, bulk.age, bulk.pending) == (whole.state, whole.age, whole.pending), number
        assert (bulk.rate_in, bulk.rate_out, bulk.since) == (whole.rate_in, whole.rate_out, whole.since)
        assert (bulk_path.state, bulk_path.age, bulk_path.net_rate) == (
            whole_path.state, whole_path.age, whole_path.net_rate,
        )  # fmt: skip
        all_of_them = {part.partition: without_since(part) for part in whole.partitions}
        assert [all_of_them[part.partition] for part in bulk.partitions] == [
            without_since(part) for part in bulk.partitions
        ]
        assert 1 <= len(bulk.partitions) <= bulk.partition_count == width
        states |= {part.state for part in bulk.partitions}
    assert len(states) > (5 if width > 2 else 1)


def test_a_topic_lists_its_partitions_once_and_not_for_each_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "MEASURED", 0)
    board = Assembler(NOBODY, NOW).board(World(0).next(0), took=0.0)

    [one] = board.paths
    [topic] = [stage for stage in one.stages if stage.kind is StageKind.TOPIC]
    assert (topic.partitions, topic.partition_count) == ([], PARTITIONS)
    assert len(board.topics[0].log_ends) == PARTITIONS


def test_what_was_not_read_is_not_known() -> None:
    seen = World(0).next(0)
    assert seen.kafka is not None
    unread = replace(seen, kafka=replace(seen.kafka, heads={}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path, "MEASURED", 0)
        _, stage = consumer(Assembler(NOBODY, NOW).board(unread, took=0.0))

    assert stage.pending
    assert stage.age is None


def test_a_log_that_is_another_one_is_compared_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "MEASURED", 0)
    world, assembler = World(3), Assembler(NOBODY, NOW)
    for number in range(20):
        assembler.board(world.next(number), took=0.0)
    world.readers = [
        Reader(world.chance, end=5, commit=5, left=9, habit="reads all") for _ in range(PARTITIONS)
    ]

    _, stage = consumer(assembler.board(world.next(20), took=0.0))

    assert stage.state is State.UP_TO_DATE
    assert isinstance(stage.as_of, datetime)


def test_who_goes_back_is_moved_back_though_all_of_a_moment_ago_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(path, "MEASURED", 0)
    world, assembler = World(0, width=2), Assembler(NOBODY, NOW)

    def at(number: int, commit: int) -> Stage:
        slower = Reader(world.chance, end=50 + 5 * number, commit=40 + 5 * number, left=9, habit="still")
        world.readers = [
            slower,
            Reader(world.chance, end=100 + 5 * number, commit=commit, left=9, habit="still"),
        ]
        return consumer(assembler.board(world.next(number), took=0.0))[1]

    seen = [at(number, 99 + 5 * number).state for number in range(10)]
    assert seen[-1] is State.UP_TO_DATE
    assert at(10, 143).state is State.MOVED_BACK  # from 144
