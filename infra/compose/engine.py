"""The Docker engine, and whether there is one."""

from docker import DockerClient
from docker.errors import DockerException
from testcontainers.core.docker_client import DockerClient as Client

ANSWERS_WITHIN = 60  # seconds
PATIENCE = 10  # seconds


def connect(timeout: int = ANSWERS_WITHIN) -> DockerClient:
    """The engine that DOCKER_HOST or the Docker context names. `timeout`: seconds for each request.

    Raises DockerException when there is none.
    """
    return Client(timeout=timeout).client


def why_no_engine() -> str | None:
    """None when a Docker engine answers, else the reason, in one line."""
    try:
        engine = connect(PATIENCE)
        try:
            engine.ping()
        finally:
            engine.close()
    except DockerException as error:
        return str(error).strip().splitlines()[0]
    return None
