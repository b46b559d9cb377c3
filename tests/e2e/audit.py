"""The services' own audits of a running platform."""

import asyncio
import json
from typing import Any, Protocol

from infra import topology
from infra.local.programs import Ran

SERVICES = tuple(service.name for service in topology.SERVICES)
ON_ITS_WAY = {"not-relayed", "not-consumed", "log-replaced", "not-sent", "delayed", "not-compared"}
"""Kinds of pending findings that come to their end by themselves, once nothing is broken any more."""

Findings = dict[str, list[str]]  # kind -> what was found


class Audited(Protocol):
    """Every stack can do this."""

    async def tool(self, service: str, *arguments: str) -> Ran: ...


async def audit(stack: Audited, service: str) -> Findings:
    """What is pending there. Fails when there is a violation, or when it can't be audited."""
    ran = await stack.tool(service, "audit", "--json")
    assert ran.code in (0, 1), f"{service} can't be audited (code {ran.code}): {ran.err}"
    report = json.loads(ran.out)
    assert not (found := findings(report, "violation")), f"{service}: {json.dumps(found, indent=2)}"
    assert ran.code == 0
    return findings(report, "pending")


async def audit_all(stack: Audited) -> dict[str, Findings]:
    """Service -> what is pending there. Fails as `audit` does."""
    turns = asyncio.Semaphore(2)  # as many as there are cores

    async def in_turn(service: str) -> Findings:
        async with turns:
            return await audit(stack, service)

    pending = await asyncio.gather(*map(in_turn, SERVICES))
    return dict(zip(SERVICES, pending, strict=True))


async def nothing_is_lost(stack: Audited) -> None:
    """No violation anywhere, and nothing waits that would wait forever."""
    for service, pending in (await audit_all(stack)).items():
        stuck = {kind: found for kind, found in pending.items() if kind not in ON_ITS_WAY}
        assert not stuck, f"{service}: {json.dumps(stuck, indent=2)}"


def findings(report: dict[str, Any], severity: str) -> Findings:
    """Kind -> the findings of that severity, in words."""
    return {
        kind["kind"]: [item["what"] for item in kind["items"]]
        for check in report["checks"]
        for kind in check["findings"]
        if kind["severity"] == severity
    }
