"""What a killed test session left behind is removed by the next one; what belongs to a living one stays."""

import subprocess
import sys
import uuid
from collections.abc import Iterator

import docker
import pytest
from docker.models.networks import Network

from infra.containers.leftovers import OWNER, OWNER_LABELS, remove_leftovers

pytestmark = pytest.mark.containers


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    engine = docker.from_env()
    yield engine
    engine.close()


@pytest.fixture
def networks(engine: docker.DockerClient) -> Iterator[dict[str, Network]]:
    """One that a dead process owned, and one of this process."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owners = {"dead": OWNER_LABELS | {OWNER: str(dead.pid)}, "living": OWNER_LABELS}
    created = {
        whose: engine.networks.create(f"leftover-{uuid.uuid4().hex}", labels=labels)
        for whose, labels in owners.items()
    }
    yield created
    for network in engine.networks.list(names=[network.name for network in created.values()]):
        network.remove()


def test_only_what_a_dead_process_owned_is_removed(
    engine: docker.DockerClient, networks: dict[str, Network]
) -> None:
    remove_leftovers(engine)

    left = {network.id for network in engine.networks.list()}
    assert networks["dead"].id not in left
    assert networks["living"].id in left
