"""Containers and networks that a killed test session left behind.

testcontainers' clean-up container (Ryuk) removes them too, but some places can't or mustn't run it
(TESTCONTAINERS_RYUK_DISABLED).
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

import psutil
from docker import DockerClient
from docker.errors import APIError

OWNER = "millrace.owner"
HOST = "millrace.host"
OWNER_LABELS = {OWNER: str(os.getpid()), HOST: socket.gethostname()}


def remove_leftovers(engine: DockerClient) -> None:
    """Removes what belongs to processes of this machine that are gone."""
    labels = {"label": [OWNER, f"{HOST}={OWNER_LABELS[HOST]}"]}
    for container in engine.containers.list(all=True, filters=labels, ignore_removed=True):
        if _abandoned(container.labels):
            with suppress(APIError):  # another session may be removing it too
                container.remove(force=True, v=True)
    for network in engine.networks.list(filters=labels):
        if _abandoned(network.attrs["Labels"]):
            with suppress(APIError):
                network.remove()


def _abandoned(labels: Mapping[str, str]) -> bool:
    return not psutil.pid_exists(int(labels[OWNER]))
