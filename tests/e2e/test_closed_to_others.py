"""What the local stack shows to other users and other machines: what is listed here, and nothing else."""

import stat
from pathlib import Path

import psutil
import pytest

from infra.demo.doors import ask_as_another_service, come_by_another_name, rewrite_history
from infra.local.ports import LOOPBACK
from infra.local.process import family
from infra.local.stack import Stack

pytestmark = pytest.mark.local_stack

# A database server that runs as another user than root must get to its directory.
PASSED_THROUGH = {Path("data"): 0o711}


@pytest.fixture
def local(running_stack: Stack) -> Stack:
    return running_stack


async def test_the_doors_that_the_demo_tries_are_closed(local: Stack) -> None:
    assert await rewrite_history(local) == "permission denied for table events"
    assert (await ask_as_another_service(local)).startswith("PERMISSION_DENIED: inventory may not call")
    assert await come_by_another_name(local) == "421: Misdirected request"


def test_it_listens_on_loopback_and_on_the_ports_of_the_topology_only(local: Stack) -> None:
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for component in local.components.values()
        if (process := component.process.find())
        for member in family(process)
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    ports = local.topology.ports
    assert listening <= {(LOOPBACK, port) for port in ports.values()}
    assert listening >= {(LOOPBACK, ports[f"{service.prefix}HTTP"]) for service in local.topology.services}


def test_no_other_user_reads_what_it_keeps(local: Stack) -> None:
    root = local.home.root
    kept = [path for path in root.rglob("*") if not path.is_symlink() and path.exists()]
    # What is behind a closed directory needs no look.
    closed = {path for path in kept if path.is_dir() and not stat.S_IMODE(path.stat().st_mode) & 0o077}
    shown = {
        path.relative_to(root): stat.S_IMODE(path.stat().st_mode)
        for path in kept
        if not closed & set(path.parents) and stat.S_IMODE(path.stat().st_mode) & 0o077
    }

    assert shown == PASSED_THROUGH
    assert {path.relative_to(root).parts[0] for path in closed} >= {"certificates", "data", "logs", "run"}


def test_what_an_older_version_left_open_is_closed_with_the_next_command(local: Stack) -> None:
    kafka = local.home.data("kafka")
    kafka.chmod(0o755)

    local.home.create()

    assert stat.S_IMODE(kafka.stat().st_mode) == 0o700
