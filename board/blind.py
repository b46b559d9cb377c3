"""The board of a pass that failed, or that does not end: nothing is seen, and what was seen last gets older.
Pure.

Whatever goes wrong in a pass, its readers get this instead of the last board, so that no old answer looks
fresh.
"""

from datetime import datetime

from board import formatting
from board.document import Board, Canary, Headline, Partition, Path, Source, Stage, State

_UNKNOWN = {"state": State.CANT_SEE, "rate_in": None, "rate_out": None, "since": None, "eta": None}


def blind(last: Board, at: datetime, silence: float, problem: str) -> Board:
    """`last`: the board of the last pass that ended well, `silence` seconds ago; `problem`: what happened
    since, in a line."""
    age = last.headline.age + silence
    text = (
        f"Platform unreachable for {formatting.duration(silence)}: {problem}. "
        f"Showing data from {last.headline.as_of:%H:%M:%S}."
    )
    return last.model_copy(
        update={
            "at": at,
            "passed_at": last.passed_at or last.at,
            "headline": Headline(text=text, state=State.CANT_SEE, as_of=last.headline.as_of, age=age),
            "sources": [_unseen(source, silence, problem) for source in last.sources],
            "paths": [_path(path) for path in last.paths],
            "topics": [topic.model_copy(update={"rate": None}) for topic in last.topics],
            "builds": [build.model_copy(update={"rate": None, "eta": None}) for build in last.builds],
            "canaries": [_canary(canary) for canary in last.canaries],
            "stores": [],
        }
    )


def never(at: datetime, started_at: datetime, problem: str) -> Board:
    """Before any pass ended well."""
    text = f"Platform not seen yet: {problem}."
    age = max(0.0, (at - started_at).total_seconds())
    return Board(
        at=at,
        passed_at=started_at,
        started_at=started_at,
        number=0,
        took=0.0,
        headline=Headline(text=text, state=State.CANT_SEE, as_of=started_at, age=age),
        sources=[],
        paths=[],
        relays=[],
        topics=[],
        groups=[],
        parked=[],
        parked_streams=[],
        builds=[],
        marks=[],
    )


def _unseen(source: Source, silence: float, problem: str) -> Source:
    age = None if source.age is None else source.age + silence
    return source.model_copy(update={"seen": False, "age": age, "problem": source.problem or problem})


def _path(path: Path) -> Path:
    stages = [_stage(stage) for stage in path.stages]
    return path.model_copy(
        update={
            "state": State.CANT_SEE,
            "text": formatting.described(State.CANT_SEE, path.pending, path.age),
            "net_rate": None,
            "eta": None,
            "stages": stages,
        }
    )


def _stage(stage: Stage) -> Stage:
    partitions = [_partition(part) for part in stage.partitions]
    text = formatting.described(State.CANT_SEE, stage.pending, stage.age)
    return stage.model_copy(update={**_UNKNOWN, "text": text, "partitions": partitions})


def _partition(part: Partition) -> Partition:
    text = formatting.described(State.CANT_SEE, part.pending, part.age)
    return part.model_copy(update={**_UNKNOWN, "text": text})


def _canary(canary: Canary) -> Canary:
    return canary.model_copy(update={"age": None, "round_trip": None, "waiting": None, "text": "can't see"})
