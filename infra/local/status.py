"""How a component is: what `millrace status` shows."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.component import Component
from infra.local.errors import NotReady
from infra.local.process import family


@dataclass(frozen=True)
class ComponentStatus:
    """`state` is ready, not ready, paused or stopped; `detail` says why it is not ready.

    `memory` is in bytes, the processes' own share of it where the system tells (PSS), else resident size.
    `uptime` is in seconds. Both are None when the component does not run.
    """

    name: str
    state: str
    url: str
    log: Path
    pid: int | None = None
    uptime: float | None = None
    memory: int | None = None
    detail: str = ""


async def status_of(component: Component) -> ComponentStatus:
    """Looks at the process and asks the component itself; takes 5 seconds at most."""
    process = component.process.find()
    if process is None:
        return ComponentStatus(component.name, "stopped", component.url, component.process.log)
    state, detail = await _state(component)
    return ComponentStatus(
        name=component.name,
        state=state,
        url=component.url,
        log=component.process.log,
        pid=process.pid,
        uptime=time.time() - process.create_time(),
        memory=sum(memory_of(member) for member in family(process)),
        detail=detail,
    )


async def _state(component: Component) -> tuple[str, str]:
    if component.process.paused:
        return "paused", ""
    try:
        async with asyncio.timeout(5.0):
            await component.ready()
    except NotReady as reason:
        return "not ready", str(reason)
    except TimeoutError:
        return "not ready", "no answer in 5 s"
    return "ready", ""


def memory_of(process: psutil.Process) -> int:
    """Bytes of memory of one process; memory shared with others counts by share where the system tells."""
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
