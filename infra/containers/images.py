"""The images of the stack: official ones unless a setting names another, the services' own from their Dockerfiles."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.local.component import Progress
from infra.local.home import REPOSITORY
from infra.local.programs import run
from infra.topology import Service

BUILD_WITHIN = 900.0  # seconds: a first build fetches the dependencies
TAG = "test"


@dataclass(frozen=True)
class Images:
    """Image names. `Images.from_environment()` takes each from its setting, MILLRACE_<NAME>_IMAGE."""

    python: str = "python:3.13-slim"
    kafka: str = "apache/kafka:4.1.1"
    postgres: str = "postgres:17"
    mailpit: str = "axllent/mailpit:v1.27"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Images":
        given = {field.name: environ.get(f"MILLRACE_{field.name.upper()}_IMAGE") for field in fields(cls)}
        return cls(**{name: image for name, image in given.items() if image})


async def build_service_image(service: Service, python_image: str, progress: Progress) -> str:
    """Builds the image of a service, as `build_image` does."""
    image = f"millrace/{service.name}-service:{TAG}"
    return await build_image(service.name, f"{service.package}/Dockerfile", image, python_image, progress)


async def build_board_image(python_image: str, progress: Progress) -> str:
    """Builds the image of the board, as `build_image` does."""
    return await build_image(
        "board", "infra/board/Dockerfile", f"millrace/board:{TAG}", python_image, progress
    )


async def build_image(name: str, dockerfile: str, image: str, python_image: str, progress: Progress) -> str:
    """Builds an image from its Dockerfile, and returns its id: the digest of its content. `name`: for the progress.

    Containers are started by that id, so that a build of another checkout at the same time can't slip in. When
    nothing has changed, the engine's cache makes this a matter of a second. Raises StackError with the output.
    """
    progress(name, "building its image")
    with TemporaryDirectory() as directory:
        id_file = Path(directory) / "id"
        argv = ("docker", "build", "--file", dockerfile, "--iidfile", id_file)
        settings = ("--build-arg", f"PYTHON_IMAGE={python_image}", "--build-arg", "CA_BUNDLE")
        await run(
            name,
            [*argv, *settings, "--tag", image, "."],
            # Where the engine is, and its credentials, is said in the environment. So is what the argument without
            # a value holds: a bundle of certificates is too long for a command line.
            env=os.environ | {"CA_BUNDLE": os.environ.get("MILLRACE_CA_BUNDLE", "")},
            cwd=REPOSITORY,
            within=BUILD_WITHIN,
        )
        return id_file.read_text().strip()
