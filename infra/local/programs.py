"""Runs a program to its end: the one-shot helpers of the local stack (initdb, psql, format, migrate,
replay)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import StackError
from infra.local.process import PRIVATE, ProgramCommand, identity


@dataclass(frozen=True)
class Ran:
    """How a program ended, and what it printed."""

    code: int
    out: str
    err: str


async def capture(command: ProgramCommand) -> Ran:
    """Runs a program to its end, whatever its exit code is. Killed when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command.argv),
        env=command.environment(),
        cwd=command.cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


async def run(
    component: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
    user: str | None = None,
    stdin: str = "",
    within: float = 120.0,
) -> None:
    """Runs a program to its end.

    Raises StackError with its output when it fails, or does not end `within` so many seconds; it is then
    killed.
    """
    command = ProgramCommand(argv, env or {}, cwd=cwd, user=user)
    uid, gid, extra_groups = identity(user)
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in argv),
        env=command.environment(),
        cwd=command.cwd,
        umask=PRIVATE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        user=uid,
        group=gid,
        extra_groups=extra_groups,
    )
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate(stdin.encode())
    except TimeoutError:
        raise StackError(f"{component}: {Path(argv[0]).name} did not end within {within:.0f} s") from None
    finally:
        if process.returncode is None:  # timed out or cancelled
            process.kill()
            await process.wait()
    if process.returncode != 0:
        text = output.decode(errors="replace").strip()
        last = text.splitlines()[-1] if text else "no output"
        raise StackError(
            f"{component}: {Path(argv[0]).name} failed with code {process.returncode}: {last}",
            details=text if text != last else "",
        )
