"""The passwords and keys of a compose installation: infra/compose/secrets.sh, carried out in the image that
compose takes."""

import subprocess
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pytest

from infra.compose.project import Project
from infra.local.home import REPOSITORY
from infra.topology import SERVICES, free_topology
from tests.e2e.test_service_images import docker

pytestmark = pytest.mark.containers

SERVICE_USER, MIGRATOR = "10001", "10002"
PASSWORDS = {"superuser", "service", "migrator", "board", "operator"}
DIRECTORIES = " ".join(f"/secrets/{name}" for name in (*(service.name for service in SERVICES), "board"))
SHOW = "(cd /secrets; for file in */*; do echo \"$file $(stat -c '%u %a' $file) $(cat $file)\"; done); echo"
MAKE = f"mkdir -p {DIRECTORIES}; sh /secrets.sh >/dev/null; {SHOW}"


@dataclass(frozen=True)
class Secret:
    owner: str
    mode: str
    value: str


def made_by(*steps: str) -> list[dict[str, Secret]]:
    """What is in /secrets each time that it is shown, by <directory>/<file>."""
    confined = ("--network=none", "--read-only", "--cap-drop=ALL", "--cap-add=CHOWN", "--user=root")
    script = f"--volume={REPOSITORY}/infra/compose/secrets.sh:/secrets.sh:ro"
    image = Project(free_topology()).image("secrets")
    # As root it reads what it gave away, which the step needn't: for the test alone.
    ran: subprocess.CompletedProcess[str] = docker(
        "run",
        "--rm",
        *confined,
        "--cap-add=DAC_OVERRIDE",
        "--tmpfs=/secrets:mode=755",
        "--tmpfs=/var/lib/postgresql/data",
        script,
        "--entrypoint=sh",
        image,
        "-euc",
        "; ".join(steps),
    )
    return [
        {name: Secret(owner, mode, value) for name, owner, mode, value in map(fields, block.splitlines())}
        for block in ran.stdout.split("\n\n")
        if block.strip()
    ]


def fields(line: str) -> tuple[str, str, str, str]:
    name, owner, mode, *value = line.split(" ")
    return name, owner, mode, " ".join(value)


@pytest.fixture(scope="module")
def made() -> dict[str, Secret]:
    (made,) = made_by(MAKE)
    return {name: secret for name, secret in made.items() if not name.endswith("/complete")}


def test_each_secret_can_be_read_by_one_user_alone(made: dict[str, Secret]) -> None:
    assert {secret.mode for secret in made.values()} == {"400"}
    for name, secret in made.items():
        if "_migration_" in name:
            assert secret.owner == MIGRATOR, name
        elif name.endswith(("_url", "_key", "_token")):
            assert secret.owner == SERVICE_USER, name
        else:
            assert name.endswith("_password")
            assert secret.owner not in ("0", SERVICE_USER, MIGRATOR), name


def test_each_is_another_one(made: dict[str, Secret]) -> None:
    passwords = [secret.value for name, secret in made.items() if not name.endswith("_url")]

    assert len(set(passwords)) == len(passwords)
    assert min(map(len, passwords)) >= 43


def test_the_logins_have_the_passwords_that_the_servers_are_told(made: dict[str, Secret]) -> None:
    for service in SERVICES:
        name, package = service.name, service.package
        logins = {
            f"{name}/{name}_database_url": (package, "service"),
            f"{name}/{name}_migration_database_url": (f"{package}_migrator", "migrator"),
            f"board/board_{name}_database_url": (f"{package}_board", "board"),
            f"board/board_{name}_operator_database_url": (f"{package}_operator", "operator"),
        }
        for file, (login, password) in logins.items():
            url = urlsplit(made[file].value)
            assert (url.username, unquote(url.password or "")) == (
                login,
                made[f"{name}/{password}_password"].value,
            )
            assert (url.hostname, url.path) == (service.postgres, f"/{package}")
        assert {file for file in made if file.startswith(f"{name}/") and file.endswith("_password")} == {
            f"{name}/{password}_password" for password in PASSWORDS
        }


def test_what_is_there_stays() -> None:
    first, second = made_by(MAKE, MAKE)

    assert first == second


def test_an_installation_from_before_the_board_gets_what_is_new_and_keeps_the_rest() -> None:
    older = "rm /secrets/*/board_* /secrets/*/operator_password"
    before, after = made_by(f"({MAKE}) >/dev/null", older, SHOW, MAKE)

    assert not [name for name in before if "board" in name or "operator" in name]
    assert before.items() <= after.items()
    assert {name for name in after.keys() - before.keys() if name.startswith("board/")} == {
        "board/board_operator_token",
        *(f"board/board_{service.name}_database_url" for service in SERVICES),
        *(f"board/board_{service.name}_operator_database_url" for service in SERVICES),
    }


def test_a_run_that_was_interrupted_is_done_again() -> None:
    interrupted = "rm /secrets/order/complete /secrets/order/order_database_url"
    before, after = made_by(f"({MAKE}) >/dev/null", interrupted, SHOW, MAKE)

    assert "order/order_database_url" not in before
    assert (
        unquote(urlsplit(after["order/order_database_url"].value).password or "")
        == after["order/service_password"].value
    )
