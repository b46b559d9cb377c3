"""Who may act on the board, and what is refused before a database is asked. What is carried out:
tests/integration/test_operator_requests.py."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from board.actions import LARGEST, Actions
from board.app import create_app
from board.auth import TRIES, WINDOW, OperatorAuth
from board.history import History
from board.requests import Requests
from board.settings import board_settings
from board.watch import Watch
from infra.topology import SERVICES
from tests.unit import board_examples as examples
from tests.unit.board_poller import Shown

TOKEN = "an operator's token, as long as one has to be"
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/none"
BODY: dict[str, Any] = {"service": "order", "consumer": "order-service.saga", "who": "Ada"}
ASKING = [("GET", "/actions"), ("GET", f"/actions/order/{examples.ORDER}"), ("POST", "/actions/redrive")]


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    watch = Watch(poller=Shown(), history=History(tmp_path / "history.sqlite"), interval=1.0)
    watch.board = examples.board()
    return watch


@pytest.fixture
async def client(watch: Watch, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(watch, actions=Actions(OperatorAuth(TOKEN, clock), Requests({"order": NOWHERE})))
    async with asking(app) as client:
        yield client


def asking(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8080")


def bearer(token: str = TOKEN, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def told(answer: httpx.Response) -> tuple[int, str]:
    """The status and the kind of the problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_nothing_is_done_or_listed_without_the_token(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    missing = await client.request(method, path, json=BODY)
    assert told(missing) == (401, "operator_token_missing")
    assert missing.headers["www-authenticate"].startswith("Bearer")
    for wrong in (TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
        answer = await client.request(method, path, json=BODY, headers=bearer(wrong))
        assert told(answer) == (401, "operator_token_wrong")


@pytest.mark.parametrize("wrong", [f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer  "])
async def test_the_token_is_shown_as_a_bearer_token(client: httpx.AsyncClient, wrong: str) -> None:
    answer = await client.get("/actions", headers={"Authorization": wrong})
    assert told(answer) == (401, "operator_token_missing")


async def test_a_token_in_the_address_or_a_cookie_is_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/actions", params={"token": TOKEN})).status_code == 401
    assert (await client.get("/actions", headers={"Cookie": f"token={TOKEN}"})).status_code == 401


async def test_with_the_token_the_list_names_what_cannot_be_seen(client: httpx.AsyncClient) -> None:
    answer = await client.get("/actions", headers=bearer())
    assert answer.status_code == 200
    assert answer.json()["actions"] == []
    assert answer.json()["unseen"]["order"].startswith("postgres-order: ")


async def test_too_many_wrong_tokens_shut_the_door_for_a_while(
    client: httpx.AsyncClient, clock: Clock
) -> None:
    with capture_logs() as logs:
        for _ in range(TRIES):
            assert (await client.get("/actions", headers=bearer("wrong"))).status_code == 401
    assert len(logs) == TRIES
    assert "wrong" not in [
        value for line in logs for value in line.values()
    ]  # what was shown is nobody's business
    for token in ("wrong", TOKEN):  # guessing on would tell nothing
        shut = await client.get("/actions", headers=bearer(token))
        assert told(shut) == (429, "too_many_wrong_tokens")
    assert shut.headers["retry-after"] == "60"
    clock.now += WINDOW
    assert (await client.get("/actions", headers=bearer())).status_code == 200


async def test_the_right_token_makes_good_for_wrong_ones(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        for _ in range(TRIES - 1):
            assert (await client.get("/actions", headers=bearer("wrong"))).status_code == 401
        assert (await client.get("/actions", headers=bearer())).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:8081", "null"])
async def test_a_page_from_elsewhere_cannot_act_even_with_the_token(
    client: httpx.AsyncClient, origin: str
) -> None:
    answer = await client.post("/actions/redrive", json=BODY, headers=bearer(Origin=origin))
    assert told(answer) == (403, "forbidden")


async def test_the_boards_own_page_can(client: httpx.AsyncClient) -> None:
    answer = await client.post("/actions/redrive", json=BODY, headers=bearer(Origin="http://localhost:8080"))
    assert told(answer) == (503, "temporarily_unavailable")  # as far as the database, which there is not
    assert "postgres-order: " in answer.json()["detail"]


async def test_no_browser_is_allowed_to_ask_from_elsewhere(client: httpx.AsyncClient) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/actions/redrive", headers=preflight)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dry_run": False}, '"confirmed": true'),
        ({"who": "  "}, "who: "),
        ({"who": "A" * 101}, "who: "),
        ({"who": "Ada\nEve"}, "who: "),
        ({"who": None}, "who: "),
        ({"all": True}, "all: Extra inputs"),
        ({"consumer": ""}, "consumer: "),
        ({"stream_id": "a\0b"}, "stream_id: "),
        ({"service": "payment"}, "service: there are order"),
        ({"consumer": "order-service.sagga"}, ", order-service.saga"),
        ({"consumer": "inventory-service.stock"}, ", order-service.saga"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_the_reason(
    client: httpx.AsyncClient, change: dict[str, Any], said: str
) -> None:
    answer = await client.post("/actions/redrive", json=BODY | change, headers=bearer())
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


async def test_only_json_of_a_decent_size_is_read(client: httpx.AsyncClient) -> None:
    form = await client.post("/actions/redrive", data={"who": "Ada"}, headers=bearer())
    assert told(form) == (415, "not_json")
    large = await client.post("/actions/redrive", json=BODY | {"who": "A" * LARGEST}, headers=bearer())
    assert told(large) == (413, "too_large")
    broken = await client.post(
        "/actions/redrive", content="{", headers=bearer(**{"Content-Type": "application/json"})
    )
    assert told(broken) == (422, "invalid_request")


async def test_without_a_token_of_its_own_nobody_can_act_and_it_says_so(watch: Watch) -> None:
    async with asking(create_app(watch)) as client:
        state = (await client.get("/actions/state")).json()
        assert state["on"] is False
        assert "BOARD_OPERATOR_TOKEN" in state["detail"]
        for method, path in ASKING:
            answer = await client.request(method, path, json=BODY, headers=bearer())
            assert told(answer) == (403, "actions_are_off")


async def test_that_one_can_act_is_free_to_know(client: httpx.AsyncClient) -> None:
    assert (await client.get("/actions/state")).json() == {"on": True, "detail": ""}


def test_a_token_is_long_and_is_not_shown() -> None:
    urls: dict[str, Any] = {f"{one.name}_database_url": NOWHERE for one in SERVICES}
    settings = board_settings()(**urls, operator_token=TOKEN, order_operator_database_url=NOWHERE)
    assert TOKEN not in repr(settings)
    assert NOWHERE not in repr(settings)
    assert settings.operator_databases == {"order": NOWHERE}
    with pytest.raises(ValueError, match="operator_token"):
        board_settings()(**urls, operator_token="short")
