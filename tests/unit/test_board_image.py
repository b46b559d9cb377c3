"""What goes into the board's image: the board, what it imports, and its own locked packages."""

import re
from pathlib import Path

from infra.local.home import REPOSITORY
from infra.topology import PORTS
from tests.unit.test_images import DISTRIBUTIONS, imports, locked, normal

DOCKERFILE = (REPOSITORY / "infra" / "board" / "Dockerfile").read_text()
BOARD = REPOSITORY / "infra" / "board"


def test_the_board_imports_nothing_of_infra_but_itself() -> None:
    """So that the image does without the local stack and what that needs."""
    assert set(re.findall(r"COPY infra\S* ", DOCKERFILE)) == {
        "COPY infra/images ", "COPY infra/board/requirements.lock ", "COPY infra/__init__.py ", "COPY infra/board ",
    }  # fmt: skip
    imported = {
        name for file in BOARD.glob("*.py") for name in re.findall(r"^\s*(?:from|import) (infra[\w.]*)", file.read_text(), re.M)
    }  # fmt: skip
    assert {name for name in imported if not name.startswith("infra.board")} == set()


def test_the_board_is_locked_to_what_is_tested() -> None:
    tested, own = locked("requirements.lock"), locked("infra/board/requirements.lock")
    assert own == {name: tested.get(name) for name in own}, "the locks disagree: run `make lock`"


def test_the_board_has_every_package_that_it_imports() -> None:
    own = locked("infra/board/requirements.lock").keys()
    missing = {
        f"{file.relative_to(REPOSITORY)}: {module}"
        for file, module in imports(BOARD)
        if module != "infra" and not any(normal(name) in own for name in DISTRIBUTIONS.get(module, [module]))
    }
    assert not missing


def test_the_image_listens_on_the_port_of_the_topology() -> None:
    assert f"BOARD_HTTP_PORT={PORTS['BOARD']} " in DOCKERFILE
    assert f"EXPOSE {PORTS['BOARD']}\n" in DOCKERFILE


def test_the_page_is_in_the_image() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {"!infra/__init__.py", "!infra/board"} <= set(ignored)
    assert not [line for line in ignored if Path(line).suffix in {".js", ".css", ".html", ".svg", ".txt"}]
