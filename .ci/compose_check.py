"""Runs compose.yaml as its users do, on what is committed and nothing else, and removes it again.

    .venv/bin/python .ci/compose_check.py

`docker compose up --build --wait`; one order over HTTP is confirmed; its e-mail is read from the mail
catcher; the board says that everything has come to its end; Prometheus scrapes all of it and raises no alert;
a second stack on the same ports is told which one is taken; `docker compose down --volumes` leaves nothing
behind. Meanwhile the `docker` commands of the other pages; then those of docs/containers.md, in order, as
written there. Every wait has a deadline. Prints image sizes, memory and the seconds that each step took.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from board.declared import platform
from infra.demo.shop import DemoFailed, Shop
from tests.docs import PAGES, ROOT, commands

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "containers.md"
DOORS = {
    "order": 8001,
    "inventory": 8002,
    "user": 8004,
    "mailbox": 8025,
    "board": 8080,
}  # inside the containers
PROMETHEUS = 9090
DOWN = ("--profile", "*", "down", "--volumes")
BUILD_WITHIN, HEALTHY_WITHIN, DOWN_WITHIN, ANSWER_WITHIN = 900, 300, 120, 60  # seconds


class Failed(Exception):
    """The stack does not do what is expected of it."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def timed(step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"   {step}: {time.monotonic() - started:.1f} s")


class Compose:
    """`docker` and `docker compose` in a checkout."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout

    def docker(self, *arguments: str, within: float = ANSWER_WITHIN, project: str = "") -> str:
        """The command's output. Raises Failed with what it said when it fails or takes longer than
        `within`."""
        environment = {**os.environ, **({"COMPOSE_PROJECT_NAME": project} if project else {})}
        try:
            done = subprocess.run(
                ["docker", *arguments],
                cwd=self._checkout,
                env=environment,
                capture_output=True,
                text=True,
                timeout=within,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"docker {' '.join(arguments)}: not done after {within:.0f} s") from error
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
            raise Failed(f"docker {' '.join(arguments)} exited with {done.returncode}:\n{tail}")
        return done.stdout

    def lines(self, *arguments: str) -> list[str]:
        return self.docker(*arguments).split()

    def __call__(self, *arguments: str, within: float = ANSWER_WITHIN, project: str = "") -> str:
        return self.docker("compose", *arguments, within=within, project=project)

    def configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = json.loads(self("config", "--format", "json"))
        return configuration

    def address(self, service: str, port: int) -> str:
        """Where a port of a service is published: host:port."""
        return self("port", service, str(port)).strip()


def check(compose: Compose) -> None:
    project = compose.configuration()["name"]
    # What an interrupted run left behind would be taken for this one's.
    compose(*DOWN, "--remove-orphans", within=DOWN_WITHIN)
    try:
        with timed("build"):
            compose("build", "--quiet", within=BUILD_WITHIN)
        with timed("docker compose up --build --wait"):
            up = ("up", "--build", "--wait", "--wait-timeout", str(HEALTHY_WITHIN))
            compose(*up, within=BUILD_WITHIN + HEALTHY_WITHIN)
        urls = {name: f"http://{compose.address(name, port)}" for name, port in DOORS.items()}
        with timed("an order, confirmed and mailed"):
            asyncio.run(order_something(urls))
        with timed("the board says that all is up to date"):
            asyncio.run(all_is_up_to_date(urls["board"]))
        with timed("Prometheus scrapes everything and raises nothing"):
            compose("up", "--wait", "prometheus", within=HEALTHY_WITHIN)
            asyncio.run(all_is_scraped(f"http://{compose.address('prometheus', PROMETHEUS)}"))
        run_documented_elsewhere(compose)
        with timed("a database from before a role was invented"):
            sql(compose, "DROP OWNED BY order_service_operator; DROP ROLE order_service_operator")
        with timed("docker compose up --wait, everything runs"):
            compose(*up, within=HEALTHY_WITHIN)
        if not sql(compose, "SELECT 'made' FROM pg_roles WHERE rolname = 'order_service_operator'"):
            raise Failed("docker compose up did not make the role that the database lacked")
        second_stack_is_told_which_port(compose, f"{project}-second")
        show_sizes(compose, project)
        belongings = names_of_everything(compose, project)
    except (Failed, DemoFailed):
        show_state(compose)
        raise
    finally:
        with timed("docker compose down --volumes"):
            compose(*DOWN, within=DOWN_WITHIN)
    nothing_is_left(compose, belongings)


def run_documented_elsewhere(compose: Compose) -> None:
    """What the other pages show of docker, on the stack that runs: the services' own commands."""
    documented = [
        words[1:] for page in PAGES if page != PAGE for words in commands(page) if words[0] == "docker"
    ]
    for arguments in documented:
        with timed(f"docker {' '.join(arguments)}"):
            compose.docker(*arguments)


def run_documented(compose: Compose) -> None:
    """The page starts with `up --build --wait` and ends with `down --volumes`; each command ends with
    success."""
    documented = [words[1:] for words in commands(PAGE) if words[0] == "docker"]
    if not documented:
        raise Failed("docs/containers.md shows no docker command: this check looks in the wrong place")
    try:
        for arguments in documented:
            with timed(f"docker {' '.join(arguments)}"):
                compose.docker(*arguments, within=BUILD_WITHIN)
    finally:
        compose(*DOWN, within=DOWN_WITHIN)


async def order_something(urls: dict[str, str]) -> None:
    """One order, from the customer's registration to the confirmation in the customer's mailbox."""
    sku, email = f"TEA-{uuid4().hex[:8].upper()}", f"{uuid4().hex}@example.com"
    async with Shop(urls) as shop:
        await shop.stock_product(sku, "Earl Grey, 100 g", 890, 5)
        customer = await shop.register("Ada", email)
        order = await shop.place(customer, sku, 2)
        if order["status"] != "confirmed":
            raise Failed(f"the order should be confirmed, it is {order}")
        mails = await shop.mails(email, 2)
    subjects = [mail["Subject"] for mail in mails]
    if not any("confirmed" in subject for subject in subjects):
        raise Failed(f"no e-mail says that the order is confirmed: {subjects}")
    async with httpx.AsyncClient(base_url=urls["mailbox"], trust_env=False) as mailbox:
        texts = [(await mailbox.get(f"/api/v1/message/{mail['ID']}")).json()["Text"] for mail in mails]
    if not any("Ada" in text for text in texts):
        raise Failed(f"no e-mail calls the customer by name: {texts}")
    say(f"   order {order['order_id']} is {order['status']}; e-mails: {', '.join(subjects)}")


def sql(compose: Compose, statement: str) -> str:
    """What a statement answers in the order service's database."""
    psql = ("psql", "-U", "postgres", "--no-align", "--tuples-only", "order_service", "-c", statement)
    return compose("exec", "-T", "postgres-order", *psql).strip()


async def all_is_up_to_date(url: str) -> None:
    """The board sees every server, and nothing waits on any path that the services declare."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as board:

        async def problem() -> str:
            answer = await board.get("/board.json")
            if answer.status_code != 200:
                return answer.text
            seen = answer.json()
            paths = {(path["service"], path["projection"]): path["state"] for path in seen["paths"]}
            missing = {(each.service, each.name) for each in platform().projections} - paths.keys()
            if missing or set(paths.values()) != {"UP_TO_DATE"}:
                return f"{seen['headline']['text']} {paths}, missing: {missing}"
            return ""

        await until_no(problem, "the board does not say that all is up to date")


async def all_is_scraped(url: str) -> None:
    """Every target of Prometheus is up, its rules work, and none has anything to say."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as prometheus:

        async def problem() -> str:
            targets = (await prometheus.get("/api/v1/targets")).json()["data"]["activeTargets"]
            down = [
                f"{each['labels']['job']}: {each['lastError']}" for each in targets if each["health"] != "up"
            ]
            groups = (await prometheus.get("/api/v1/rules")).json()["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            unwell = [f"{rule['name']}: {rule['health']}, {rule['state']}" for rule in rules
                      if (rule["health"], rule["state"]) != ("ok", "inactive")]  # fmt: skip
            return "" if rules and not down and not unwell else f"targets: {down}, rules: {unwell}"

        await until_no(problem, "Prometheus isn't content")


async def until_no(problem: Callable[[], Awaitable[str]], what: str) -> None:
    """Asks until there is no problem. Raises Failed with the last one."""
    deadline = time.monotonic() + ANSWER_WITHIN
    while found := await problem():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: {found}")
        await asyncio.sleep(0.5)


def second_stack_is_told_which_port(compose: Compose, project: str) -> None:
    port = compose.address("mailbox", DOORS["mailbox"]).rpartition(":")[2]
    try:
        compose("up", "--detach", "--no-deps", "mailbox", project=project)
    except Failed as error:
        if f":{port}" not in str(error):
            raise Failed(f"a second stack isn't told that port {port} is taken: {error}") from error
    else:
        raise Failed(f"a second stack came up on port {port}, which was taken")
    finally:
        compose("down", "--volumes", within=DOWN_WITHIN, project=project)


def show_sizes(compose: Compose, project: str) -> None:
    label = f"label=com.docker.compose.project={project}"
    images = set(compose.lines("ps", "--all", "--filter", label, "--format", "{{.Image}}"))
    for image in sorted(images):
        size = int(compose.docker("image", "inspect", "--format", "{{.Size}}", image))
        say(f"   image {image}: {size / 1e6:.0f} MB")
    running = compose.lines("ps", "--quiet", "--filter", label)
    usage = compose.docker("stats", "--no-stream", "--format", "{{.Name}}: {{.MemUsage}}", *running)
    for line in usage.splitlines():
        say(f"   {line}")


def names_of_everything(compose: Compose, project: str) -> dict[str, set[str]]:
    """What the project has now, volumes without a name included."""
    label = ("--filter", f"label=com.docker.compose.project={project}")
    containers = compose.lines("ps", "--all", "--quiet", "--no-trunc", *label)
    mounts = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
    return {
        "container": set(containers),
        "network": set(compose.lines("network", "ls", "--quiet", "--no-trunc", *label)),
        "volume": set(compose.lines("inspect", "--format", mounts, *containers))
        | set(compose.lines("volume", "ls", "--quiet", *label)),
    }


def nothing_is_left(compose: Compose, belongings: dict[str, set[str]]) -> None:
    listing = {
        "container": ("ps", "--all", "--quiet", "--no-trunc"),
        "network": ("network", "ls", "--quiet", "--no-trunc"),
        "volume": ("volume", "ls", "--quiet"),
    }
    for kind, names in belongings.items():
        if not names:
            raise Failed(f"the stack had no {kind} at all: this check looks in the wrong place")
        if left := names & set(compose.lines(*listing[kind])):
            raise Failed(f"docker compose down --volumes left a {kind} behind: {', '.join(sorted(left))}")


def show_state(compose: Compose) -> None:
    """What somebody needs who reads of a failure in a log."""
    try:
        say(compose("ps", "--all"))
        say(compose("logs", "--no-color", "--tail", "25"))
    except Failed as error:
        say(f"and its state can't be shown: {error}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-compose-") as folder:
        tree = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=folder, input=tree.stdout, check=True)
        try:
            compose = Compose(Path(folder))
            check(compose)
            run_documented(compose)
        except (Failed, DemoFailed) as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
