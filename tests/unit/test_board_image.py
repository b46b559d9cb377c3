"""What goes into the board's image: the board, what it imports, and its own locked packages."""

import re
from pathlib import Path

from infra.local.home import REPOSITORY
from infra.topology import PORTS, SERVICES
from tests.unit.test_images import DISTRIBUTIONS, imports, locked, normal

BOARD = REPOSITORY / "board"
DOCKERFILE = (BOARD / "Dockerfile").read_text()


def test_the_board_imports_the_framework_and_the_schemas_only() -> None:
    """So that the image does without the local stack, the services, and what these need."""
    copied = set(re.findall(r"^COPY (\S+) ", DOCKERFILE, re.M)) - {"infra/images", "board/requirements.lock"}
    manifests = {f"{service.package}/service.toml" for service in SERVICES}
    code = {name for name in copied if not name.startswith("--from")} - manifests
    assert (code, manifests - copied) == ({"millrace", "schemas", "board"}, set())
    first_party = {"infra", "tests", *(service.package for service in SERVICES)}
    assert {module for _, module in imports(BOARD)} & first_party == set()


def test_the_board_is_locked_to_what_is_tested() -> None:
    tested, own = locked("requirements.lock"), locked("board/requirements.lock")
    assert own == {name: tested.get(name) for name in own}, "the locks disagree: run `make lock`"


def test_the_board_has_every_package_that_it_imports() -> None:
    own = locked("board/requirements.lock").keys()
    missing = {
        f"{file.relative_to(REPOSITORY)}: {module}"
        for file, module in imports(BOARD)
        if module != "board" and not any(normal(name) in own for name in DISTRIBUTIONS.get(module, [module]))
    }
    assert not missing


def test_the_image_listens_on_the_port_of_the_topology() -> None:
    assert f"BOARD_HTTP_PORT={PORTS['BOARD']} " in DOCKERFILE
    assert f"EXPOSE {PORTS['BOARD']}\n" in DOCKERFILE


def test_the_page_is_in_the_image() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "!board" in ignored
    assert not [line for line in ignored if Path(line).suffix in {".js", ".css", ".html", ".svg", ".txt"}]
