"""What each container of the stack can do: start, stop, crash, freeze, be cut off, be replaced."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from docker.errors import APIError
from docker.models.containers import Container

from infra.compose.leftovers import PROJECT
from infra.compose.project import Project
from infra.local.errors import NotReady, StackError
from infra.local.ports import LOOPBACK, free_ports
from infra.local.programs import Ran

SERVICE = "com.docker.compose.service"
LOG_LINES = 30
START_WITHIN = 90.0  # seconds
FREEZE_WITHIN = 30.0  # seconds
KILLED = 137  # exit code: 128 + SIGKILL

Check = Callable[[str], Awaitable[None]]
"""Returns when the container at this address, host:port, does its work; raises NotReady with the reason."""


class ComposeContainer:
    """The container of one service in compose.yaml, found by that name each time: it may have been replaced.

    Everything blocking that the engine's client does runs in threads.
    """

    def __init__(
        self, project: Project, name: str, *, address: str, check: Check, ends_with_zero: bool = False
    ) -> None:
        """`address`: host:port. `ends_with_zero`: whether a stop in good order has no other code."""
        self.name = name
        self.address = address
        self._project = project
        self._check = check
        self._ends_with_zero = ends_with_zero

    async def start(self) -> None:
        """Starts it unless it runs (a paused one goes on, cut links are healed), and waits until it is ready.

        Raises StackError when it ends, or is not ready in time.
        """
        if await asyncio.to_thread(self._newest) is None:
            await self._project.up(self.name, with_dependencies=False)
        await self._call(self._go_on)
        await self._wait_ready(self.address)

    async def stop(self) -> None:
        """Ends it in good order. Raises StackError if it has to be killed, or ends with a wrong code."""
        await self._call(self._stop)

    async def kill(self) -> None:
        """Crashes it: SIGKILL to all of its processes."""
        await self._call(lambda container: (container.kill(), container.wait()))

    async def pause(self) -> None:
        """Freezes it: connections stay open and nothing answers."""
        # The kernel freezes a process when that next runs. On a busy machine runc loses its patience first,
        # lets all of them go on again and says "unable to freeze": nothing has changed, and asking again is
        # right.
        until = time.monotonic() + FREEZE_WITHIN
        while True:
            try:
                await self._call(lambda container: container.pause())
                return
            except StackError as error:
                if "unable to freeze" not in str(error) or time.monotonic() > until:
                    raise

    async def resume(self) -> None:
        """Lets it go on."""
        await self._call(lambda container: container.unpause())

    async def cut(self, other: str) -> None:
        """Cuts the link to `other`: established connections get no answer any more, new ones find nobody.

        Raises StackError when no internal network connects the two.
        """
        links = self._project.links(self.name, other)
        if not links:
            raise StackError(f"there is no link between {self.name} and {other} that could be cut")
        await self._call(partial(self._disconnect, links))

    async def execute(self, *argv: str) -> Ran:
        """Runs a program in it."""
        code, (out, err) = await self._call(lambda container: container.exec_run(argv, demux=True))
        return Ran(code, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))

    async def wipe(self) -> None:
        """Removes it with its volumes: the next start is that of a new one."""
        await self._call(self._wipe)

    async def replace(self) -> None:
        """A rolling replacement: a second container takes over at another address; the first is stopped."""
        old = await asyncio.to_thread(self._required)
        address = f"{LOOPBACK}:{free_ports(1)[0]}"
        try:
            await self._project.run_another(self.name, address)
            await self._wait_ready(address)
        except BaseException:
            await asyncio.to_thread(self._remove_newer_than, old)
            raise
        self.address = address
        try:
            await asyncio.to_thread(self._stop, old)
        finally:
            await asyncio.to_thread(old.remove, force=True, v=True)

    def _newest(self) -> Container | None:
        labels = [f"{PROJECT}={self._project.name}", f"{SERVICE}={self.name}"]
        # The engine lists the container that was created last first.
        found = self._project.engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return found[0] if found else None

    def _required(self) -> Container:
        container = self._newest()
        if container is None:
            raise StackError(f"{self.name} was not started yet")
        return container

    def _go_on(self, container: Container) -> None:
        if container.status == "paused":
            container.unpause()
        elif container.status != "running":
            container.start()
        container.reload()
        joined = container.attrs["NetworkSettings"]["Networks"]
        for network in set(self._project.networks(self.name).values()) - joined.keys():
            self._project.engine.networks.get(network).connect(container, aliases=[self.name])

    def _disconnect(self, networks: Iterable[str], container: Container) -> None:
        for network in networks:
            self._project.engine.networks.get(network).disconnect(container)

    def _wipe(self, container: Container) -> None:
        container.remove(force=True, v=True)
        for volume in self._project.volumes(self.name):
            self._project.engine.volumes.get(volume).remove()

    def _remove_newer_than(self, old: Container) -> None:
        newest = self._required()
        if newest.id != old.id:
            newest.remove(force=True, v=True)

    def _stop(self, container: Container) -> None:
        if container.status != "running":
            return
        container.stop()  # in the time that compose.yaml gives it
        code = int(container.wait()["StatusCode"])
        if code == KILLED or (self._ends_with_zero and code != 0):
            raise _failure(self.name, f"ended with code {code} when it was asked to stop", container)

    async def _wait_ready(self, address: str) -> None:
        deadline = time.monotonic() + START_WITHIN
        reason = ""
        while time.monotonic() < deadline:
            container = await asyncio.to_thread(self._required)
            if container.status != "running":
                raise _failure(self.name, f"is {container.status}", container)
            try:
                await asyncio.wait_for(self._check(address), timeout=5.0)
                return
            except NotReady as missing:
                reason = str(missing)
            except TimeoutError:
                reason = "no answer in 5 s"
            await asyncio.sleep(0.1)
        raise _failure(self.name, f"not ready after {START_WITHIN:.0f} s: {reason}", self._required())

    async def _call(self, action: Callable[[Container], Any]) -> Any:
        def call() -> Any:
            try:
                return action(self._required())
            except APIError as error:
                raise StackError(f"{self.name}: {error.explanation or error}") from error

        return await asyncio.to_thread(call)


def _failure(name: str, why: str, container: Container) -> StackError:
    try:
        output = str(container.logs(tail=LOG_LINES).decode(errors="replace")).rstrip()
    except APIError as error:
        output = f"(no output: {error})"
    return StackError(f"{name}: {why}", details=output)
