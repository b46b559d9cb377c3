"""What the command lines print passes through here: names and errors come from other people, a terminal obeys
what it gets.

A group id, a stream id or an error may hold escape sequences that move the cursor, rename the window or hide
a line. Every character that is not shown as itself is printed as \\uXXXX, which JSON reads as the same
character.
"""

import sys
from collections.abc import Callable, Iterable

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from millrace.domain.errors import MillraceError
from millrace.runtime.printable import line, lines


def echo(text: str, *, err: bool = False) -> None:
    """Prints one line. `err`: to standard error."""
    typer.echo(line(text), err=err)


def echo_lines(text: str, *, err: bool = False) -> None:
    """Prints text whose own lines are in order: none of its newlines may come from data."""
    typer.echo(lines(text), err=err)


def echo_json(document: str | bytes) -> None:
    """Prints encoded JSON, for programs: the same document, of which a terminal obeys nothing."""
    typer.echo(lines(document if isinstance(document, str) else document.decode()))


class Terminal(Console):
    """A rich console. What it prints may hold anything; only rich's own styles reach the terminal as control
    sequences.

    Newlines it prints: data whose newlines must not show goes through `line` or `tidy` first.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Console.render, with `lines` applied to each piece of text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(lines(segment.text), segment.style)


def run_command_line(app: Callable[[], None]) -> None:
    """Runs a command line that people type, and ends the process.

    An error is one line on stderr (each of its `lines`, if it has some), with its `details` below.

    Exit code 0: done; 1: an error; 2: a wrong command line; 130: interrupted.
    """
    err = Terminal(stderr=True, highlight=False)
    try:
        app()
    except (MillraceError, OSError) as error:
        for one in getattr(error, "lines", (str(error),)):
            err.print(f"[bold red]error:[/bold red] {escape(line(one))}", soft_wrap=True)
        if details := getattr(error, "details", ""):
            err.print(escape(details), style="dim", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
