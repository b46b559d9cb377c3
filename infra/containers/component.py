"""What every container of the stack can do: start, stop, crash, freeze, be replaced, and say how it is."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from docker.errors import APIError, NotFound
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from infra.containers.leftovers import OWNER_LABELS
from infra.containers.networks import Networks
from infra.local.component import Progress, silent
from infra.local.errors import NotReady, StackError

LOG_LINES = 30
ABSENT = "not_started"  # as testcontainers calls it; the other states are Docker's
FREEZE_WITHIN = 30.0  # seconds
KILLED = 137  # exit code: 128 + SIGKILL

# testcontainers starts its clean-up container with the first container: one thread must be first.
starting = threading.Lock()


class ContainerComponent(ABC):
    """One container with its ports on the loopback address, its networks and its alias there.

    The host ports are chosen beforehand: a mapped port would be another one after each restart. Everything blocking
    that the engine's client does runs in threads.
    """

    start_within = 90.0
    stop_within = 30.0
    memory = "512m"
    clean_exit: tuple[int, ...] | None = None
    """The exit codes of a stop in good order; None: any but being killed."""

    def __init__(self, name: str, networks: Networks, ports: Mapping[int, int]) -> None:
        """`ports`: host port by port of the container. `name` is its alias on all of its networks."""
        self.name = name
        self._networks = networks
        self._ports = ports
        self._container: DockerContainer | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the component answers, seen from the host."""

    @abstractmethod
    def define(self) -> DockerContainer:
        """Image, command, environment, files."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the component does its work; raises NotReady with the reason."""

    def options(self) -> dict[str, Any]:
        """How the engine is to run it. What a component adds here it says itself."""
        return {
            "mem_limit": self.memory,
            "security_opt": ["no-new-privileges"],
            "labels": OWNER_LABELS,
        }

    async def start(self, progress: Progress = silent) -> None:
        """Starts it unless it runs (a paused one goes on, cut links are healed), and returns when it is ready.

        Raises StackError when it ends, or is not ready in `start_within` seconds.
        """
        progress(self.name, "starting")
        await asyncio.to_thread(self._start)
        await self.wait_ready()
        progress(self.name, "ready")

    async def wait_ready(self) -> None:
        """Polls until `check` passes. Raises StackError when the container ends or time runs out."""
        deadline = time.monotonic() + self.start_within
        reason = ""
        while time.monotonic() < deadline:
            state = await asyncio.to_thread(self._state)
            if state != "running":
                raise self._failure(f"is {state}")
            try:
                await asyncio.wait_for(self.check(), timeout=5.0)
                return
            except NotReady as missing:
                reason = str(missing)
            except TimeoutError:
                reason = "no answer in 5 s"
            await asyncio.sleep(0.1)
        raise self._failure(f"not ready after {self.start_within:.0f} s: {reason}")

    async def stop(self) -> None:
        """Ends it in good order. Raises StackError when it has to be killed, or ends with another code than it should."""
        if await asyncio.to_thread(self._state) != "running":
            return
        await self._call(lambda container: container.stop(timeout=int(self.stop_within)))
        code = await self._call(lambda container: int(container.wait()["StatusCode"]))
        if code == KILLED or (self.clean_exit is not None and code not in self.clean_exit):
            raise self._failure(f"ended with code {code} when it was asked to stop")

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """Crashes it: SIGKILL to all of its processes."""
        await self._call(lambda container: container.kill())
        await self._call(lambda container: container.wait())

    async def pause(self) -> None:
        """Freezes it: connections stay open and nothing answers."""
        # The kernel freezes a process when that next runs. On a busy machine runc loses its patience first, lets all of
        # them go on again and says "unable to freeze": nothing has changed, and asking again is right.
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

    async def remove(self) -> None:
        """Removes the container and its volumes, in whatever state it is."""
        await asyncio.to_thread(self._remove)

    @property
    def definition(self) -> DockerContainer:
        """What was started. Raises StackError when nothing was."""
        if self._container is None:
            raise StackError(f"{self.name} was not started yet")
        return self._container

    @property
    def container(self) -> Container:
        """The engine's view of it. Raises StackError when it was never started."""
        return self.definition.get_wrapped_container()

    def logs(self) -> str:
        """The last lines of its output."""
        return str(self.container.logs(tail=LOG_LINES).decode(errors="replace")).rstrip()

    def _start(self) -> None:
        try:
            if (state := self._state()) == ABSENT:
                self._create_and_start()
            elif state == "paused":
                self.container.unpause()
            elif state != "running":
                self.container.start()
        except APIError as error:
            raise StackError(
                f"{self.name}: the engine can't start it: {error.explanation or error}"
            ) from error
        self._networks.connect(self.name, self.container)

    def _create_and_start(self) -> None:
        definition = self.define().with_network(self._networks.platform)
        if self._networks.is_public(self.name):
            definition = definition.with_network_aliases(self.name)
        definition = definition.with_kwargs(**self.options())
        for inside, outside in self._ports.items():
            # Only on the loopback address; the library's type knows ports of all addresses only.
            definition.ports[f"{inside}/tcp"] = ("127.0.0.1", outside)  # type: ignore[assignment]
        self._container = definition  # before the start: what was created by a failed start is removed too
        with starting:
            definition.start()

    def _state(self) -> str:
        if self._container is None:
            return ABSENT
        self._container.reload()
        return self._container.status

    def _remove(self) -> None:
        if self._container is None:
            return
        with suppress(NotFound):  # somebody else removed it
            self._container.stop(force=True, delete_volume=True)
        self._container = None

    async def _call(self, action: Callable[[Container], Any]) -> Any:
        try:
            return await asyncio.to_thread(action, self.container)
        except APIError as error:
            raise StackError(f"{self.name}: {error.explanation or error}") from error

    def _failure(self, why: str) -> StackError:
        try:
            output = self.logs()
        except (APIError, StackError) as error:
            output = f"(no output: {error})"
        return StackError(f"{self.name}: {why}", details=output)
