"""`millrace audit`: starts the services' own audits, two at a time, and puts their reports into one table."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.markup import escape

from infra.console import err, out
from infra.local.home import default_home
from infra.local.process import ProgramCommand
from infra.local.stack import Stack
from infra.topology import SERVICES, local_topology
from millrace.operations.audit.display import rendered
from millrace.runtime.printable import line as one_line
from millrace.runtime.terminal import echo_json

AT_ONCE = 2  # each is a process that keeps a core and a database busy
CLEAN, VIOLATED, NOT_AUDITED = 0, 1, 2  # exit codes, of a service's audit and of this one

Show = Callable[[str, str | None], None]


@dataclass(frozen=True)
class Audited:
    """How the audit of one service ended: with a report, or with the reason why there is none."""

    service: str
    report: dict[str, Any] | None
    error: str = ""


def audit(
    service: Annotated[
        list[str] | None, typer.Option("--service", help="Only this service; may be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole reports, for programs.")] = False,
    skip_read_models: Annotated[
        bool, typer.Option("--skip-read-models", help="Do not rebuild the read models to compare them.")
    ] = False,
) -> None:
    """Prove that nothing was lost, invented or done twice, beside the running platform. See docs/audit.md.

    Exit code 0: all clean; 1: a violation; 2: a service could not be audited, so nothing is proven.
    """
    local = Stack(local_topology(), default_home(), settings=os.environ)
    arguments = ["audit", "--json", *(["--skip-read-models"] if skip_read_models else [])]
    names = list(dict.fromkeys(service or [one.name for one in SERVICES]))
    commands = {name: local.service(name).tool_command(*arguments) for name in names}
    audited = asyncio.run(_run_all(commands))
    reports = [one.report for one in audited if one.report is not None]
    if as_json:
        failures = [{"service": one.service, "error": one.error} for one in audited if one.report is None]
        echo_json(json.dumps({"reports": reports, "not_audited": failures}, indent=2))
    elif reports:
        out.print(rendered(reports))
    for one in audited:
        if one.report is None:
            err.print(
                f"[bold red]not audited:[/bold red] {one.service}: {escape(one_line(one.error))}",
                soft_wrap=True,
            )
    raise typer.Exit(_exit_code(audited))


def _exit_code(audited: Sequence[Audited]) -> int:
    """A violation that was found stands, whatever could not be looked at besides."""
    if any(one.report is not None and one.report["violations"] for one in audited):
        return VIOLATED
    return NOT_AUDITED if any(one.report is None for one in audited) else CLEAN


async def _run_all(commands: dict[str, ProgramCommand]) -> list[Audited]:
    turns = asyncio.Semaphore(AT_ONCE)
    now: dict[str, str] = {}

    with err.status("Auditing") as spinner:

        def show(service: str, line: str | None) -> None:
            """`line`: what the audit of `service` does now; None: it has ended."""
            now.pop(service, None)
            if line is not None:
                now[service] = line
            spinner.update("Auditing " + " · ".join(escape(one_line(one)) for one in now.values()))

        async def one(service: str, command: ProgramCommand) -> Audited:
            async with turns:
                show(service, service)
                try:
                    return await _run(service, command, show)
                finally:
                    show(service, None)

        return list(await asyncio.gather(*(one(*each) for each in commands.items())))


async def _run(service: str, command: ProgramCommand, show: Show) -> Audited:
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command.argv),
        env=command.environment(),
        cwd=command.cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    last = ""

    async def follow(stream: asyncio.StreamReader) -> None:
        nonlocal last
        async for line in stream:
            last = line.decode(errors="replace").strip().removeprefix(f"{service}-service: ") or last
            show(service, f"{service}: {last}")

    try:
        output, _ = await asyncio.gather(process.stdout.read(), follow(process.stderr))
        code = await process.wait()
    finally:
        if process.returncode is None:  # interrupted: the audit has nothing to clean up
            process.kill()
            await process.wait()
    if code not in (CLEAN, VIOLATED):
        return Audited(service, None, last or f"its audit ended with code {code}")
    try:
        return Audited(service, json.loads(output))
    except ValueError:
        return Audited(service, None, f"its audit ended with code {code} and no report: {last}")
