"""What a compose project of the tests has in the Docker engine, and what a killed session left behind.

The name of a project says which process owns it: millrace-test-<host>-<process id>-<random>. Its containers,
networks and volumes have the label that Compose gives them; its images have the name as their tag.
"""

import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
from docker import DockerClient
from docker.errors import APIError

PROJECT = "com.docker.compose.project"
_HOST = re.sub(r"[^a-z0-9]", "", socket.gethostname().lower())[:24] or "host"
_OURS = re.compile(rf"millrace-test-{_HOST}-(?P<owner>\d+)-[0-9a-f]+")
_AT_ONCE = 8


def unused_name(owner: int | None = None) -> str:
    """A name for a project of a process of this machine, by default of this one."""
    return f"millrace-test-{_HOST}-{owner or os.getpid()}-{secrets.token_hex(3)}"


def remove_leftovers(engine: DockerClient) -> None:
    """Removes the projects whose processes, of this machine, are gone."""
    for project in _projects(engine):
        ours = _OURS.fullmatch(project)
        if ours and not psutil.pid_exists(int(ours["owner"])):
            remove(engine, project)
            remove_images(engine, project)


def remove(engine: DockerClient, project: str) -> None:
    """Removes the project's containers in whatever state they are, then its networks and its volumes."""
    labelled = {"label": f"{PROJECT}={project}"}
    containers = engine.containers.list(all=True, filters=labelled, ignore_removed=True)
    _each(containers, lambda container: container.remove(force=True, v=True))
    _each(engine.networks.list(filters=labelled), lambda network: network.remove())
    _each(engine.volumes.list(filters=labelled), lambda volume: volume.remove())


def remove_images(engine: DockerClient, project: str) -> None:
    """Removes the project's images. Their layers stay: they are the cache of the next build."""
    for name in _images(engine, project):
        with suppress(APIError):
            engine.images.remove(name, noprune=True)


def _projects(engine: DockerClient) -> set[str]:
    """The names of all projects that have anything in the engine."""
    anything = {"label": PROJECT}
    labels = [
        *(one.labels for one in engine.containers.list(all=True, filters=anything, ignore_removed=True)),
        *(one.attrs["Labels"] for one in engine.networks.list(filters=anything)),
        *(one.attrs["Labels"] for one in engine.volumes.list(filters=anything)),
    ]
    tags = (name.rpartition(":")[2] for name in _images(engine, "millrace-test-*"))
    return {each[PROJECT] for each in labels} | set(tags)


def _images(engine: DockerClient, tag: str) -> list[str]:
    """The names of the images whose tag this is; `*` stands for anything."""
    images = engine.images.list(filters={"reference": f"millrace/*:{tag}"})
    wanted = re.compile(re.escape(tag).replace(r"\*", ".*"))
    return [name for one in images for name in one.tags if wanted.fullmatch(name.rpartition(":")[2])]


def _each(found: Iterable[Any], remove_one: Callable[[Any], None]) -> None:
    """Some at once. What can't be removed is left: another session may be removing it too."""

    def attempt(one: Any) -> None:
        with suppress(APIError):
            remove_one(one)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(attempt, found))
