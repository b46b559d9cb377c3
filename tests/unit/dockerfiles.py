"""Reading the services' Dockerfiles as data."""

import re

from infra.local.home import REPOSITORY
from millrace.manifest import Manifest


def dockerfile(service: Manifest) -> str:
    """The Dockerfile of a service."""
    return (REPOSITORY / service.package / "Dockerfile").read_text()


def environment(service: Manifest) -> dict[str, str]:
    """The settings of the service that its image brings."""
    return dict(re.findall(rf"\b({service.prefix}\w+)=(\S+)", dockerfile(service)))
