"""The board as a program: it serves though nothing that it looks at is there, and ends when told to."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx

from infra.local.home import REPOSITORY
from infra.local.ports import free_ports
from infra.topology import SERVICES
from tests.support import eventually


def settings(directory: Path, port: int) -> dict[str, str]:
    nowhere = {
        f"BOARD_{each.name.upper()}_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/none" for each in SERVICES
    }
    kafka = {"BOARD_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:2", "BOARD_HTTP_PORT": str(port)}
    return {"PATH": os.environ["PATH"], "BOARD_DIRECTORY": str(directory), **nowhere, **kafka}


async def run(env: dict[str, str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "board", cwd=REPOSITORY, env=env, stdout=pipe, stderr=pipe
    )


async def test_it_says_what_it_cannot_see_and_ends_in_good_order_with_a_viewer(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = await run(settings(tmp_path, port))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await eventually(lambda: is_ready(client), within=30)
            board = (await client.get("/board.json")).json()
            assert board["headline"]["state"] == "CANT_SEE"
            assert {source["name"] for source in board["sources"] if source["seen"]} == set()
            assert (await client.get("/")).status_code == 200
            async with client.stream("GET", "/events"):
                process.send_signal(signal.SIGTERM)
                out, err = await asyncio.wait_for(process.communicate(), timeout=15)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (out, err)
    assert out.decode().count("can't see it") == len(SERVICES) + 1  # each server once, not once a pass
    assert b"Traceback" not in out + err


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    process = await run({"PATH": os.environ["PATH"]})
    _, err = await asyncio.wait_for(process.communicate(), timeout=60)
    assert process.returncode == 2
    assert b"BOARD_USER_DATABASE_URL is not set" in err
    assert b"Traceback" not in err


async def test_who_has_the_token_that_it_was_told_can_act_and_no_token_is_logged(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    token, wrong = "t" * 43, "w" * 43
    operator = {"BOARD_ORDER_OPERATOR_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/none"}
    process = await run(settings(tmp_path, port) | operator | {"BOARD_OPERATOR_TOKEN": token})
    wanted = {"service": "order", "consumer": "order-service.saga", "who": "Ada"}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await eventually(lambda: is_ready(client), within=30)
            answers = [
                await client.post(
                    "/actions/redrive", json=wanted, headers={"Authorization": f"Bearer {each}"}
                )
                for each in (wrong, token)
            ]
            # An address that the client makes up is not its address: the door shuts all the same.
            guesses = [
                await client.get(
                    "/actions",
                    headers={"Authorization": f"Bearer {wrong}", "X-Forwarded-For": f"10.0.0.{number}"},
                )
                for number in range(7)
            ]
        assert [answer.status_code for answer in answers] == [401, 503]
        assert guesses[-1].status_code == 429
        assert answers[1].json()["detail"].startswith("postgres-order: ")
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), timeout=15)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"a wrong operator token was refused" in out + err
    assert token.encode() not in out + err
    assert wrong.encode() not in out + err
