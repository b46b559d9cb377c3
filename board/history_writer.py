"""What is written of a board into its history: each stage's ages by partition, each path's throughput, what
happened."""

from collections.abc import Iterator

from board.document import Board, Path, Stage, StageKind, State
from board.history import Mark, Sample


def series_of(path: str, stage: StageKind | None = None) -> str:
    """The name in the history of a stage of a path, or of the path as a whole."""
    return f"{path}:{stage.value}" if stage else path


def samples(board: Board) -> Iterator[Sample]:
    """One sample per stage and one per path; of bulk groups (board/bulk_groups.py) one per path.

    What can't be seen now has no age: it is a gap, not a line that went on.
    """
    for path in board.paths:
        yield _of_path(path)
        if not _of_bulk_groups(path):
            for stage in path.stages:
                yield _of_stage(path, stage)


def _of_bulk_groups(path: Path) -> bool:
    """Thousands of paths would be as many writes a second; their end is what counts."""
    return any(len(stage.partitions) < stage.partition_count for stage in path.stages)


def marks(board: Board) -> Iterator[Mark]:
    for mark in board.marks:
        yield Mark(mark.at.timestamp(), mark.subject, mark.kind, mark.text)


def _of_path(path: Path) -> Sample:
    # In: what was appended. Out: what reached the end. One axis shows at once which of the two is greater.
    first, last = path.stages[0], path.stages[-1]
    seen = path.state is not State.CANT_SEE
    return Sample(
        series_of(path.id),
        [path.age if seen else None],
        pending=path.pending if seen else None,
        rate_in=first.rate_in if first.state is not State.CANT_SEE else None,
        rate_out=last.rate_out if last.state is not State.CANT_SEE else None,
    )


def _of_stage(path: Path, stage: Stage) -> Sample:
    if stage.state is State.CANT_SEE:
        return Sample(series_of(path.id, stage.kind), [None])
    ages: list[float | None] = [stage.age]
    if stage.partitions:
        ages = [None] * (1 + max(each.partition for each in stage.partitions))
        for each in stage.partitions:
            ages[each.partition] = None if each.state is State.CANT_SEE else each.age
    return Sample(
        series_of(path.id, stage.kind),
        ages,
        pending=stage.pending,
        rate_in=stage.rate_in,
        rate_out=stage.rate_out,
    )
