"""Asking every service's own command the same, and putting the answers together."""

import asyncio
import json
from typing import Any

from infra.local.stack import Stack
from infra.topology import SERVICES


async def ask_all(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    """The rows that each service's `arguments --json` prints; a service that can't say anything has a row
    with the reason (`service`, `problem`)."""

    async def ask(service: str) -> list[dict[str, Any]]:
        ran = await stack.tool(service, *arguments, "--json")
        if ran.code == 0:
            rows: list[dict[str, Any]] = json.loads(ran.out)
            return rows
        said = ran.err.strip().splitlines() or [f"`{' '.join(arguments)}` ended with code {ran.code}"]
        return [{"service": service, "problem": said[-1].removeprefix(f"{service}-service: ")}]

    answers = await asyncio.gather(*(ask(service.name) for service in SERVICES))
    return [row for rows in answers for row in rows]
