"""The HTTP door of the user service. A user may read and change themselves, an operator everybody."""

import re
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from millrace import Committed
from millrace.http.actor import Actor, AnyActor, OptionalActor
from millrace.http.command import ChangingCommand, CreatingCommand
from millrace.http.fields import RequestBody, Text
from millrace.http.problems import forbidden, not_found
from millrace.http.responses import answer
from millrace.http.routing import new_router
from millrace.http.waiting import MinVersion, Waiters
from user_service.commands import UserCommands
from user_service.domain import User
from user_service.privacy import Contact
from user_service.queries import CurrentContacts, UserQueries, UserView

REFUSALS: Final = {"user_not_found": 404}

# Stricter than RFC 5321 on purpose: no quoted local parts, no address literals, ASCII only, a domain with a
# dot. What is left can be put into a header and on an SMTP command line as it is. 64 characters before the @.
_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_LOCAL: Final = rf"(?![^@]*\.\.)[{_ATEXT}](?:[.{_ATEXT}]{{0,62}}[{_ATEXT}])?"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL_PATTERN: Final = rf"^{_LOCAL}@(?:{_LABEL}\.)+{_LABEL}$"
_EMAIL: Final = re.compile(_EMAIL_PATTERN)


def _email(value: str) -> str:
    if _EMAIL.fullmatch(value) is None:
        raise ValueError(
            "not an e-mail address such as ada@example.com (ASCII, international domains as xn--...)"
        )
    return value


Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254),
    AfterValidator(_email),
    Field(examples=["ada@example.com"], json_schema_extra={"pattern": _EMAIL_PATTERN}),
]
Name = Annotated[Text, Field(max_length=200)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class ContactBody(RequestBody):
    """How to reach somebody."""

    email: Email
    name: Name

    def contact(self) -> Contact:
        """As the commands take it."""
        return Contact(name=self.name, email=self.email)


class DeactivateBody(RequestBody):
    """Why. A code, not prose: it is published to other services, and prose about a person is personal
    data."""

    reason: Code | None = Field(None, examples=["by_request"])


class UserCommitted(BaseModel):
    """What a command did. `position` is null when nothing had to be done."""

    user_id: UUID
    version: int
    position: int | None


class UserDocument(BaseModel):
    """A user."""

    user_id: UUID
    name: str
    email: str
    active: bool
    version: int


@dataclass(frozen=True, slots=True)
class UserResources:
    """What the doors need. `waiters` wait for the read model."""

    commands: UserCommands
    queries: UserQueries
    waiters: Waiters[UUID]
    contacts: CurrentContacts


async def _resources(request: Request) -> UserResources:
    resources: UserResources = request.app.state.resources
    return resources


async def _concerned(user_id: UUID, actor: AnyActor) -> Actor:
    """The user in the path, or an operator. For others 403 whether or not there is such a user."""
    if not actor.may_see(user_id):
        raise forbidden("Only the user themselves or an operator may do this.")
    return actor


Resources = Annotated[UserResources, Depends(_resources)]
Concerned = Annotated[Actor, Depends(_concerned)]

router = new_router("users")


@router.post("/users", status_code=201, response_model=UserCommitted)
async def register_user(
    body: ContactBody, command: CreatingCommand, actor: OptionalActor, resources: Resources
) -> Response:
    """Register. With an Idempotency-Key a repeat gives the first user again."""
    committed = await resources.commands.register(body.contact(), command.context(actor, body))
    user_id = committed.state.user_id
    return _committed(committed, status=201, location=f"/users/{user_id}")


@router.get("/users/{user_id}", response_model=UserDocument)
async def get_user(
    user_id: UUID, _actor: Concerned, read_after: MinVersion, resources: Resources
) -> Response:
    """A user with contact details."""
    user = await read_after.read(lambda: resources.queries.user(user_id), resources.waiters, user_id)
    if user is None:
        raise not_found("user")
    return answer(_document(user), version=user.version)


@router.put("/users/{user_id}/contact", response_model=UserCommitted)
async def change_contact(
    user_id: UUID, body: ContactBody, command: ChangingCommand, actor: Concerned, resources: Resources
) -> Response:
    """Change name and e-mail address. Mail that is not sent yet goes to the new address."""
    return _committed(
        await resources.commands.change_contact(
            user_id,
            body.contact(),
            command.context(actor, body),
            expected_version=command.expected_version,
        )
    )


@router.post("/users/{user_id}/deactivate", response_model=UserCommitted)
async def deactivate_user(
    user_id: UUID,
    command: ChangingCommand,
    actor: Concerned,
    resources: Resources,
    body: DeactivateBody | None = None,
) -> Response:
    """Deactivate: no mail is sent any more. Doing it twice changes nothing."""
    return _committed(
        await resources.commands.deactivate(
            user_id,
            body.reason if body else None,
            command.context(actor, body),
            expected_version=command.expected_version,
        )
    )


def _committed(committed: Committed[User], *, status: int = 200, location: str | None = None) -> Response:
    assert committed.state.user_id is not None, "a command that was not refused leaves a user"
    body = UserCommitted(
        user_id=committed.state.user_id, version=committed.version, position=committed.position
    )
    return answer(body, status=status, version=committed.version, location=location)


def _document(user: UserView) -> UserDocument:
    return UserDocument(
        user_id=user.user_id,
        name=user.contact.name,
        email=user.contact.email,
        active=user.active,
        version=user.version,
    )
