"""What a command's route needs beside its body: idempotency key, precondition, and the context for the
store."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel

from millrace.application.commands import CommandContext, IdempotencyKey
from millrace.http.actor import Actor
from millrace.http.idempotency import HEADER, PATTERN, fingerprint, parse_key, require_key
from millrace.http.openapi import Header, reads
from millrace.http.preconditions import TAG_PATTERN, parse_if_match
from millrace.http.problems import FieldError, Problem
from millrace.http.routing import canonical_path
from millrace.http.tracing import traceparent

_KEY_DOC = "makes a repeat of this request harmless: the first answer is given again"
_MATCH_DOC = 'only when the resource is at this version, an ETag such as "3"; else 412'


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """The parts of a request that are the same for every command."""

    request: Request
    key: str | None
    expected_version: int | None

    def context(self, actor: Actor | None, body: BaseModel | None = None) -> CommandContext:
        """Who, why and how often: what CommandHandler asks for.

        A key counts for one actor and one route; the same key with another path or body is a reuse (422).
        """
        scope = self.request.scope
        return CommandContext(
            actor=str(actor) if actor else None,
            correlation_id=scope["correlation_id"],
            traceparent=traceparent(scope),
            idempotency=self._idempotency(actor, body) if self.key else None,
        )

    def _idempotency(self, actor: Actor | None, body: BaseModel | None) -> IdempotencyKey:
        scope = self.request.scope
        route = f"{scope['method']} {scope['route'].path}"
        assert self.key is not None
        return IdempotencyKey(f"{actor or ''} {route}", self.key, fingerprint(canonical_path(scope), body))


@reads(Header(HEADER, _KEY_DOC, pattern=PATTERN), Header("If-Match", _MATCH_DOC, pattern=TAG_PATTERN))
async def command_request(request: Request) -> CommandRequest:
    """For a command on something that exists: the key is optional, If-Match is honoured."""
    return CommandRequest(request, parse_key(request.headers), parse_if_match(request.headers))


@reads(Header(HEADER, _KEY_DOC, pattern=PATTERN))
async def creating_request(request: Request) -> CommandRequest:
    """For a command that creates: the key is optional, and no If-Match can hold (412)."""
    if "if-match" in request.headers:
        raise _nothing_to_match()
    return CommandRequest(request, parse_key(request.headers), None)


@reads(Header(HEADER, _KEY_DOC, required=True, pattern=PATTERN))
async def keyed_request(request: Request) -> CommandRequest:
    """For a command that creates and must not be doubled: the key is required (400)."""
    creating = await creating_request(request)
    require_key(creating.key)
    return creating


def _nothing_to_match() -> Problem:
    # Not ignored: a request whose condition is false must not be carried out (RFC 9110, 13.1.1).
    message = "what is created has no version yet"
    errors = [FieldError("If-Match", message, "leave it out")]
    return Problem(412, "precondition_failed", f"If-Match: {message}", errors=errors, current_version=0)


ChangingCommand = Annotated[CommandRequest, Depends(command_request)]
CreatingCommand = Annotated[CommandRequest, Depends(creating_request)]
KeyedCommand = Annotated[CommandRequest, Depends(keyed_request)]
