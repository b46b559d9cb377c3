"""Reading the components' logs: the last lines, and what comes after."""

import time
from collections.abc import Callable, Iterator, Mapping
from os import SEEK_END
from pathlib import Path

from infra.local.process import last_lines

Show = Callable[[str, str], None]


def show_last(logs: Mapping[str, Path], lines: int, show: Show) -> None:
    """Shows (component, line) for the last lines of each log."""
    for component, log in logs.items():
        for line in last_lines(log, lines).splitlines():
            show(component, line)


def follow(logs: Mapping[str, Path], show: Show, pause: float = 0.2) -> None:
    """Shows each new line until interrupted. Looks every `pause` seconds."""
    tails = {component: new_lines(log) for component, log in logs.items()}
    while True:
        for component, tail in tails.items():
            for line in next(tail):
                show(component, line)
        time.sleep(pause)


def new_lines(log: Path) -> Iterator[list[str]]:
    """Each step gives the complete lines that were written since the step before.

    Begins at the end of the file, and at the start of a new one when the log is created or rotated.
    """
    offset = log.stat().st_size if log.exists() else 0
    unfinished = b""
    while True:
        added = b""
        if log.exists():
            with log.open("rb") as file:
                if file.seek(0, SEEK_END) < offset:
                    offset, unfinished = 0, b""
                file.seek(offset)
                added = file.read()
                offset = file.tell()
        *complete, unfinished = (unfinished + added).split(b"\n")
        yield [line.decode(errors="replace") for line in complete]
