"""What a killed test session left behind is removed by the next one; what belongs to a living one stays."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from docker import DockerClient

from infra.compose.engine import connect
from infra.compose.leftovers import PROJECT, remove, remove_images, remove_leftovers, unused_name
from infra.compose.project import Project
from infra.topology import free_topology
from tests.e2e.test_service_images import docker

pytestmark = pytest.mark.containers


@pytest.fixture
def engine() -> Iterator[DockerClient]:
    engine = connect()
    yield engine
    engine.close()


@pytest.fixture
def projects(engine: DockerClient) -> Iterator[tuple[str, str]]:
    """One that a dead process owned, and one of this process; each with one thing of every kind."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = unused_name(dead.pid), unused_name()
    for name in names:
        make_belongings(engine, name)
    yield names
    for name in names:
        remove(engine, name)
        remove_images(engine, name)


def make_belongings(engine: DockerClient, project: str) -> None:
    labels, image = {PROJECT: project}, Project(free_topology()).image("postgres-order")
    engine.networks.create(project, labels=labels)
    engine.volumes.create(project, labels=labels)
    label, mount = f"--label={PROJECT}={project}", f"--volume={project}:/data"
    docker(
        "create", f"--name={project}", label, f"--network={project}", mount, image
    )  # pulls the image if need be
    engine.images.get(image).tag("millrace/leftover", project)


def belongings(engine: DockerClient, project: str) -> list[str]:
    """The kinds of things that the project has in the engine."""
    labelled = {"label": f"{PROJECT}={project}"}
    found = {
        "container": engine.containers.list(all=True, filters=labelled),
        "network": engine.networks.list(filters=labelled),
        "volume": engine.volumes.list(filters=labelled),
        "image": engine.images.list(f"millrace/leftover:{project}"),
    }
    return [kind for kind, things in found.items() if things]


def test_only_what_a_dead_process_owned_is_removed(engine: DockerClient, projects: tuple[str, str]) -> None:
    dead, living = projects

    remove_leftovers(engine)

    assert belongings(engine, dead) == []
    assert belongings(engine, living) == ["container", "network", "volume", "image"]


def test_an_image_that_is_left_is_enough_to_find_what_a_dead_process_owned(
    engine: DockerClient, projects: tuple[str, str]
) -> None:
    dead, _ = projects
    remove(engine, dead)
    assert belongings(engine, dead) == ["image"]

    remove_leftovers(engine)

    assert belongings(engine, dead) == []
