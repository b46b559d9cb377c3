"""The board over HTTP: stream, history, search, health, and what a foreign page can't do."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from board.document import Board, State
from tests.support import eventually
from tests.unit import board_examples as examples
from tests.unit.board_poller import Shown, serving


@pytest.fixture
def poller() -> Shown:
    return Shown()


@pytest.fixture
async def client(poller: Shown, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(poller, tmp_path / "history.sqlite") as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        await eventually(lambda: is_ready(client))
        yield client


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def boards(client: httpx.AsyncClient, wanted: int) -> list[dict[str, Any]]:
    """The first events of the stream."""
    found = []
    async with asyncio.timeout(10), client.stream("GET", "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line.removeprefix("data:")))
            if len(found) == wanted:
                break
    return found


async def test_the_json_is_the_document(client: httpx.AsyncClient) -> None:
    answer = await client.get("/board.json")
    assert Board.model_validate_json(answer.content).headline.text == examples.FINE


async def test_the_stream_tells_every_pass(client: httpx.AsyncClient, poller: Shown) -> None:
    numbers = [board["number"] for board in await boards(client, 3)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


async def test_there_is_one_look_for_all_viewers(client: httpx.AsyncClient, poller: Shown) -> None:
    before = poller.passes
    seen = await asyncio.gather(*(boards(client, 3) for _ in range(10)))
    assert {board["number"] for each in seen for board in each} <= set(range(before, poller.passes + 1))
    assert poller.passes - before < 10


async def test_a_pass_that_fails_is_told_and_the_next_one_follows(
    client: httpx.AsyncClient, poller: Shown
) -> None:
    # Captured, for what structlog prints of a traceback by default takes seconds, and the server's loop
    # waits.
    with capture_logs() as logs:
        poller.fails = RuntimeError("out of memory")
        await eventually(lambda: answers(client, "/readyz", 503))
        assert "RuntimeError: out of memory" in (await client.get("/readyz")).json()["detail"]
        assert (await client.get("/livez")).status_code == 200
        board = Board.model_validate_json((await client.get("/board.json")).content)
        assert (board.headline.state, board.sources[0].seen) == (State.CANT_SEE, False)
        assert "RuntimeError: out of memory" in board.headline.text
        failed = poller.failed
        await eventually(lambda: poller.failed > failed + 1)
        poller.fails = None
        await eventually(lambda: answers(client, "/readyz", 200))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["pass failed"]  # once


async def answers(client: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await client.get(path)).status_code == status


async def test_history_has_the_ages_by_partition(client: httpx.AsyncClient, poller: Shown) -> None:
    poller.board = examples.in_trouble()
    asked = {"path": "inventory/reservations", "stage": "consumer"}

    async def remembered() -> bool:
        seconds = (await client.get("/history", params=asked)).json()["seconds"]
        return [ages[3] for ages in seconds][-1:] == [230.0]

    await eventually(remembered)
    answer = (await client.get("/history", params=asked)).json()
    assert answer["step"] == 1
    assert answer["until"] - answer["since"] == 900


async def test_history_is_empty_for_what_was_never_seen(client: httpx.AsyncClient) -> None:
    assert (await client.get("/history", params={"path": "none/none"})).json()["at"] == []


@pytest.mark.parametrize("query", ["path=a&span=5", "path=a&span=99999999", "path=a&stage=magic", "span=900"])
async def test_history_refuses_what_it_cannot_answer(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/history?{query}")).status_code == 422


async def test_an_event_is_found_by_the_id_of_its_order(client: httpx.AsyncClient) -> None:
    trace = (await client.get(f"/path/{examples.ORDER}")).json()
    assert [hop["state"] for hop in trace["events"][0]["hops"]] == [
        "passed",
        "passed",
        "waiting",
        "unknown",
    ]


async def test_what_is_no_id_is_refused_with_the_reason(client: httpx.AsyncClient) -> None:
    answer = await client.get("/path/drop%20table")
    assert (answer.status_code, answer.json()["detail"]) == (422, "'drop table' is no id: ids have no blanks")


@pytest.mark.parametrize("path", ["/", "/board.json", "/static/board.js", "/metrics", "/nothing"])
async def test_every_answer_forbids_what_did_not_come_from_here(client: httpx.AsyncClient, path: str) -> None:
    policy = (await client.get(path)).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy


async def test_a_name_that_points_here_from_elsewhere_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/board.json", headers={"Host": "evil.example"})).status_code == 400
    assert (await client.get("/board.json", headers={"Host": "localhost:8080"})).status_code == 200


async def test_nothing_on_the_page_comes_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    assert "://" not in page.replace('xmlns="http://www.w3.org', "")
    assert "<style" not in page
    assert " style=" not in page


async def test_every_state_has_a_word_a_colour_and_a_shape(client: httpx.AsyncClient) -> None:
    page, words = (await client.get("/")).text, (await client.get("/static/dom.js")).text
    for state in State:
        assert f'<symbol id="{state}"' in page
        assert f"  {state}: [" in words


async def test_a_viewer_does_not_hold_up_the_end_of_the_board(poller: Shown, tmp_path: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(15):
        async with serving(poller, tmp_path / "history.sqlite") as url:
            viewer = asyncio.create_task(boards_until_closed(client, url))
            await eventually(lambda: poller.passes > 2)
        await viewer


async def boards_until_closed(client: httpx.AsyncClient, url: str) -> None:
    try:
        async with client.stream("GET", f"{url}/events") as stream:
            async for _ in stream.aiter_lines():
                pass
    except httpx.TransportError:
        pass
