"""Runs a program to its end: the one-shot helpers of the local stack (initdb, psql, format, migrate)."""

import asyncio
from pathlib import Path

from infra.local.errors import StackError
from infra.local.process import Command, identity


async def run(
    component: str,
    argv: list[str | Path],
    *,
    env: dict[str, str] | None = None,
    user: str | None = None,
    stdin: str = "",
) -> None:
    """Runs a program to its end. Raises StackError with its output when it fails."""
    command = Command(argv, env or {}, cwd=Path("/"), user=user)
    uid, gid, extra_groups = identity(user)
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in argv),
        env=command.environment(),
        cwd=command.cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        user=uid,
        group=gid,
        extra_groups=extra_groups,
    )
    output, _ = await process.communicate(stdin.encode())
    if process.returncode != 0:
        program = Path(str(argv[0])).name
        raise StackError(
            f"{component}: {program} failed with code {process.returncode}", output.decode(errors="replace")
        )
