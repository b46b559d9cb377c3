"""The board's image, as somebody meets it who only has `docker run`."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from infra.compose.leftovers import PROJECT
from infra.compose.project import Project
from infra.topology import SERVICES
from tests.e2e.test_service_images import CONFINED, docker, run
from tests.servers import Servers
from tests.support import eventually
from tests.unit.test_images import locked

pytestmark = pytest.mark.containers

NOWHERE = "postgresql://board:hunter2@127.0.0.1:1/nowhere"
LOGINS = [f"--env=BOARD_{service.name.upper()}_DATABASE_URL={NOWHERE}" for service in SERVICES]
HISTORY = "--tmpfs=/var/lib/board:uid=10001"


@pytest.fixture(scope="module")
def project(servers: Servers) -> Project:
    return servers.project


@pytest.fixture(scope="module")
def image(project: Project) -> str:
    asyncio.run(project.build("board"))
    return project.image("board")


@pytest.fixture
def lonely_board(project: Project, image: str) -> Iterator[str]:
    """One that can reach no server."""
    label = f"--label={PROJECT}={project.name}"
    name = f"lonely-board-{uuid.uuid4().hex[:8]}"
    kafka = "--env=BOARD_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1"
    health = ("--health-interval=1s", "--health-start-period=1s")
    docker(
        "run",
        "--detach",
        f"--name={name}",
        "--network=none",
        HISTORY,
        label,
        *CONFINED,
        *LOGINS,
        kafka,
        *health,
        image,
    )
    yield name
    docker("rm", "--force", "--volumes", name)


def inside(image: str, program: str) -> Any:
    ran = run(image, "--entrypoint=python", command=("-c", program))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_image_holds_the_board_and_nothing_to_build_or_install_with(image: str) -> None:
    found = inside(
        image,
        "import json, os, shutil, sys\n"
        "print(json.dumps({'user': os.getuid(), 'root': os.listdir('/app'),\n"
        "  'services': [os.listdir(f'/app/{one}') for one in os.listdir('/app') if '_service' in one],\n"
        "  'tools': [t for t in ('cc', 'gcc', 'make', 'uv') if shutil.which(t)],\n"
        "  'installer': os.path.exists(os.path.join(sys.prefix, 'bin', 'pip'))}))",
    )

    assert found["user"] == 10001
    assert set(found["root"]) == {"millrace", "schemas", "board", *(service.package for service in SERVICES)}
    assert found["services"] == [["service.toml"]] * len(SERVICES), "it knows them by their manifests"
    assert found["tools"] == []
    assert not found["installer"]


def test_the_image_has_the_locked_packages_and_no_other(image: str) -> None:
    installed = inside(
        image,
        "import json, importlib.metadata as m\n"
        "print(json.dumps({d.name.lower().replace('_', '-').replace('.', '-'): d.version\n"
        "  for d in m.distributions(path=[p for p in __import__('sys').path if '/opt/venv' in p])}))",
    )
    lock = {name: version for name, (version, _) in locked("board/requirements.lock").items()}

    assert installed.items() <= lock.items()


def test_a_setting_that_is_missing_ends_the_container_at_once_with_a_line_that_names_it(image: str) -> None:
    ran = run(image, HISTORY)

    assert ran.returncode == 2
    assert [line.split(" is not set")[0] for line in ran.stderr.splitlines()] == [
        f"BOARD_{service.name.upper()}_DATABASE_URL" for service in SERVICES
    ]


async def test_a_board_that_sees_nothing_is_healthy_and_says_what_it_cannot_see(lonely_board: str) -> None:
    def health() -> str:
        return docker("inspect", "--format={{.State.Health.Status}}", lonely_board).stdout.strip()

    await eventually(lambda: health() == "healthy", within=60, what="the board is healthy")
    asked = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/board.json').read().decode())"
    board = json.loads(docker("exec", lonely_board, "python", "-c", asked).stdout)

    assert board["headline"]["state"] == "CANT_SEE"
    assert board["headline"]["text"].startswith("Kafka, Postgres of order")
    assert " not seen yet: " in board["headline"]["text"]
    assert not [source["name"] for source in board["sources"] if source["seen"]]
    assert "hunter2" not in json.dumps(board) + docker("logs", lonely_board).stderr


async def test_a_board_that_is_told_to_stop_ends_in_time_by_itself(lonely_board: str) -> None:
    asked = "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/livez')"

    def answers() -> bool:
        return docker("exec", lonely_board, "python", "-c", asked, check=False).returncode == 0

    await eventually(answers, within=60, what="the board answers")
    docker("stop", "--time=15", lonely_board)

    assert docker("inspect", "--format={{.State.ExitCode}}", lonely_board).stdout.strip() == "0"
