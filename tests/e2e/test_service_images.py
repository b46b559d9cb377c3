"""The services' images, as somebody meets them who only has `docker run`."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.compose.leftovers import PROJECT
from infra.compose.project import Project
from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from millrace.manifest import Manifest
from tests.servers import Servers
from tests.support import eventually
from tests.unit.test_images import locked

pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("running_stack")]

CONFINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
NOWHERE = "postgresql://order_service:hunter2@127.0.0.1:1/order_service"
MASTER_KEY = "0" * 43 + "="

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=check)


def run(image: str, *options: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A container that is to end by itself."""
    return docker("run", "--rm", "--network=none", *CONFINED, *options, image, *command, check=False)


def inside(image: str, program: str) -> Any:
    """What a Python program prints as JSON in a container of the image."""
    ran = run(image, "--entrypoint=python", command=("-c", program))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def project(servers: Servers) -> Project:
    return servers.project


@pytest.fixture(scope="module")
def images(project: Project) -> dict[str, str]:
    """The image of each service; they were built for the stack."""
    return {service.name: project.image(service.name) for service in SERVICES}


@pytest.fixture
def lonely_service(project: Project, images: dict[str, str]) -> Iterator[str]:
    """An order service without a database and without Kafka."""
    name = f"lonely-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", f"--label={PROJECT}={project.name}", name)
    make_certificate(images["order"], name)
    settings = (
        f"--env=ORDER_DATABASE_URL={NOWHERE}",
        "--env=ORDER_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1",
        *(f"--env=ORDER_TLS_{one}=/run/tls/{one.lower()}.pem" for one in ("CA", "CERTIFICATE", "KEY")),
        f"--volume={name}:/run/tls:ro",
    )
    health = ("--health-interval=1s", "--health-retries=1", "--health-start-period=1s")
    docker(
        "run",
        "--detach",
        f"--name={name}",
        "--network=none",
        f"--label={PROJECT}={project.name}",
        *CONFINED,
        *settings,
        *health,
        images["order"],
    )
    yield name
    docker("rm", "--force", "--volumes", name)
    docker("volume", "rm", name)


def make_certificate(image: str, volume: str) -> None:
    """As the step `certificates` of compose.yaml, into a volume that the order service mounts."""
    rights = ("--user=0:0", "--cap-drop=ALL", "--cap-add=CHOWN", "--cap-add=DAC_OVERRIDE")
    step = ("-m", "millrace.tls", "--owner", "10001", "/certificates", "order")
    mounts = ("--network=none", f"--volume={volume}:/certificates/order", "--entrypoint=python")
    docker("run", "--rm", *mounts, *rights, image, *step)


async def says(container: str, text: str) -> str:
    """What the health check of a container says, once that has `text` in it."""

    def last() -> str:
        log = json.loads(docker("inspect", "--format={{json .State.Health.Log}}", container).stdout)
        return str(log[-1]["Output"]) if log else ""

    await eventually(lambda: text in last(), within=60, what=f"the health check says {text}")
    return last()


@each_service
def test_an_image_holds_its_service_and_nothing_to_build_or_install_with(
    images: dict[str, str], service: Manifest
) -> None:
    found = inside(
        images[service.name],
        "import json, os, shutil, sys\n"
        "print(json.dumps({'user': os.getuid(), 'root': os.listdir('/app'),\n"
        "  'tools': [t for t in ('cc', 'gcc', 'make', 'uv') if shutil.which(t)],\n"
        "  'installer': os.path.exists(os.path.join(sys.prefix, 'bin', 'pip')),\n"
        "  'leftovers': [p for p in ('/build',) if os.path.exists(p)]}))",
    )

    assert found["user"] == 10001
    assert set(found["root"]) == {"millrace", "schemas", service.package}
    assert found["tools"] == []
    assert not found["installer"]
    assert found["leftovers"] == []


@each_service
def test_an_image_has_the_locked_packages_and_no_other(images: dict[str, str], service: Manifest) -> None:
    installed = inside(
        images[service.name],
        "import json, importlib.metadata as m\n"
        "print(json.dumps({d.name.lower().replace('_', '-').replace('.', '-'): d.version\n"
        "  for d in m.distributions(path=[p for p in __import__('sys').path if '/opt/venv' in p])}))",
    )
    lock = {name: version for name, (version, _) in locked(f"{service.package}/requirements.lock").items()}

    assert installed.items() <= lock.items()
    assert lock.keys() - installed.keys() <= {"colorama", "tzdata", "async-timeout", "typing-extensions"}


@each_service
def test_a_setting_that_is_missing_ends_the_container_at_once_with_a_line_that_names_it(
    images: dict[str, str], service: Manifest
) -> None:
    ran = run(images[service.name])
    missing = ["DATABASE_URL", *service.secrets]

    assert ran.returncode == 2
    assert [line.split(" is not set")[0] for line in ran.stderr.splitlines()] == [
        f"{service.prefix}{name}" for name in missing
    ]


def test_a_setting_that_is_malformed_ends_the_container_at_once_with_one_line(images: dict[str, str]) -> None:
    ran = run(images["order"], f"--env=ORDER_DATABASE_URL={NOWHERE}", "--env=ORDER_GRPC_PORT=high")

    assert ran.returncode == 2
    assert ran.stderr.startswith("ORDER_GRPC_PORT is malformed: ")
    assert ran.stderr.count("\n") == 1


async def test_a_service_waits_for_its_database_and_says_so(lonely_service: str) -> None:
    said = await says(lonely_service, '"failing":["database"]')

    state = json.loads(docker("inspect", "--format={{json .State}}", lonely_service).stdout)
    assert state["Running"]
    assert state["Health"]["Status"] == "unhealthy"
    assert "onnection refused" in said
    assert "hunter2" not in said + docker("logs", lonely_service).stderr


async def test_a_service_that_is_told_to_stop_ends_in_time_by_itself(lonely_service: str) -> None:
    await says(lonely_service, '"failing":["database"]')
    docker("stop", "--time=15", lonely_service)

    assert docker("inspect", "--format={{.State.ExitCode}}", lonely_service).stdout.strip() == "0"


async def test_a_change_of_code_reuses_the_layer_of_the_packages(
    project: Project, images: dict[str, str], tmp_path: Path
) -> None:
    for name in (".dockerignore", "millrace", "schemas", "order_service", "infra/images"):
        source, copy = REPOSITORY / name, tmp_path / name
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
    with (tmp_path / "order_service" / "app.py").open("a") as app:
        app.write("\nCHANGED = True\n")
    id_file = tmp_path / "id"
    python = f"PYTHON_IMAGE={project.services['order']['build']['args']['PYTHON_IMAGE']}"
    arguments = (
        "--file",
        f"{tmp_path}/order_service/Dockerfile",
        "--build-arg",
        python,
        "--iidfile",
        str(id_file),
    )
    docker("build", "--quiet", *arguments, str(tmp_path))
    changed = id_file.read_text().strip()
    try:
        before, after = layers(images["order"]), layers(changed)
        assert before[:-1] == after[:-1]
        assert before[-1] != after[-1]
    finally:
        docker("rmi", changed)


def layers(image: str) -> list[str]:
    found: list[str] = json.loads(
        docker("image", "inspect", "--format={{json .RootFS.Layers}}", image).stdout
    )
    return found
