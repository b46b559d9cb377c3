"""Whether there is a Docker engine to start containers with."""

from docker.errors import DockerException
from testcontainers.core.docker_client import DockerClient

PATIENCE = 10  # seconds


def why_no_engine() -> str | None:
    """None when a Docker engine answers (where DOCKER_HOST or the Docker context says), else the reason, in one line."""
    try:
        engine = DockerClient(timeout=PATIENCE).client
        try:
            engine.ping()
        finally:
            engine.close()
    except DockerException as error:
        return str(error).strip().splitlines()[0]
    return None
