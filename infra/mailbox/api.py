"""The mailbox over HTTP: a page to read in, and a JSON API that is a subset of Mailpit's.

Mailpit (https://mailpit.axllent.org/docs/api-v1/) is the mail catcher of the compose stack: what reads the
one reads the other.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from infra.mailbox import pages
from infra.mailbox.letter import Address, read
from infra.mailbox.store import MessageStore, Summary

# No script, nothing from elsewhere: an e-mail is foreign text.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src"
    " 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = APIRouter()


def message_store(request: Request) -> MessageStore:
    """The store of this application."""
    store: MessageStore = request.app.state.messages
    return store


Messages = Annotated[MessageStore, Depends(message_store)]
Start = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=1000)]


class Deletion(BaseModel):
    """Which messages to remove; none named: all."""

    model_config = ConfigDict(extra="forbid")
    ids: list[str] = Field(default_factory=list, alias="IDs")


def create_app(store: MessageStore, serve_smtp: Callable[[], AbstractAsyncContextManager[None]]) -> FastAPI:
    """The application. `serve_smtp` is entered while the application runs."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with serve_smtp():
            yield

    app = FastAPI(title="Mailbox", lifespan=lifespan)
    app.state.messages = store
    app.include_router(router)
    return app


@router.get("/readyz", response_class=PlainTextResponse)
async def ready() -> str:
    return "ok"


@router.get("/api/v1/messages")
async def list_messages(messages: Messages, start: Start = 0, limit: Limit = 50) -> dict[str, Any]:
    """Newest first."""
    found = [summary_json(summary) for summary in messages.newest(start, limit)]
    return {"total": len(messages), "count": len(found), "start": start, "messages": found}


@router.delete("/api/v1/messages", response_class=PlainTextResponse)
async def delete_messages(messages: Messages, deletion: Annotated[Deletion | None, Body()] = None) -> str:
    messages.delete(deletion.ids if deletion and deletion.ids else None)
    return "ok"


@router.get("/api/v1/message/{identity}")
async def read_message(messages: Messages, identity: str) -> dict[str, Any]:
    summary, raw = required(messages, identity)
    letter = read(raw)
    return summary_json(summary) | {
        "Date": letter.date,
        "ReplyTo": [address_json(address) for address in letter.reply_to],
        "Text": letter.text,
        "HTML": letter.html,
    }


@router.get("/api/v1/message/{identity}/headers")
async def read_headers(messages: Messages, identity: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in read(required(messages, identity)[1]).headers:
        found.setdefault(name, []).append(value)
    return found


@router.get("/api/v1/message/{identity}/raw", response_class=PlainTextResponse)
async def read_raw(messages: Messages, identity: str) -> Response:
    return Response(required(messages, identity)[1], media_type="text/plain", headers=PAGE_HEADERS)


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def list_page(messages: Messages, start: Start = 0) -> HTMLResponse:
    return HTMLResponse(
        pages.message_list(messages.newest(start, pages.PAGE_SIZE), len(messages), start),
        headers=PAGE_HEADERS,
    )


@router.get("/view/{identity}", response_class=HTMLResponse, include_in_schema=False)
async def message_page(messages: Messages, identity: str) -> HTMLResponse:
    summary, raw = required(messages, identity)
    letter = read(raw)
    return HTMLResponse(pages.message(summary, letter.text, letter.html), headers=PAGE_HEADERS)


def required(messages: MessageStore, identity: str) -> tuple[Summary, bytes]:
    """The message, or 404."""
    summary, raw = messages.summary(identity), messages.raw(identity)
    if summary is None or raw is None:
        raise HTTPException(404, f"no message {identity}")
    return summary, raw


def address_json(address: Address) -> dict[str, str]:
    return {"Name": address.name, "Address": address.address}


def summary_json(summary: Summary) -> dict[str, Any]:
    return {
        "ID": summary.id,
        "MessageID": summary.message_id,
        "From": address_json(summary.sender),
        "To": [address_json(address) for address in summary.to],
        "Subject": summary.subject,
        "Created": summary.received.isoformat().replace("+00:00", "Z"),
        "Size": summary.size,
        "Snippet": summary.snippet,
    }
