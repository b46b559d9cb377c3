"""Who asks. The one place that a later token replaces: routes know Actor, not headers."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Request
from starlette.types import Scope

from millrace.http.openapi import Header, reads
from millrace.http.problems import Problem, bad_field, forbidden

CUSTOMER_HEADER = "X-Customer-Id"
OPERATOR_HEADER = "X-Operator-Id"

_OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

_ACTOR_HEADERS = (CUSTOMER_HEADER.lower().encode(), OPERATOR_HEADER.lower().encode())
_LONGEST = 64  # characters of a name

_CUSTOMER_DOC = "the customer who asks, a UUID"
_OPERATOR_DOC = "the operator who asks, a name"
_AS_CUSTOMER = Header(CUSTOMER_HEADER, _CUSTOMER_DOC, required=True, identifies="customer")
_AS_OPERATOR = Header(OPERATOR_HEADER, _OPERATOR_DOC, required=True, identifies="operator")


@dataclass(frozen=True, slots=True)
class Actor:
    """A customer (`id` is a UUID) or an operator (`id` is a name)."""

    kind: Literal["customer", "operator"]
    id: str

    def __str__(self) -> str:
        """As it is recorded in event metadata: customer:<uuid> or operator:<name>."""
        return f"{self.kind}:{self.id}"

    @property
    def is_operator(self) -> bool:
        """Whether it may do what only operators may."""
        return self.kind == "operator"

    @property
    def customer_id(self) -> UUID:
        """The customer's id. Only for customers."""
        if self.kind != "customer":
            raise ValueError("an operator has no customer id")
        return UUID(self.id)

    def may_see(self, customer_id: UUID) -> bool:
        """Whether what belongs to that customer exists for this actor; else answer `not_found`."""
        return self.is_operator or self.customer_id == customer_id


def claimed_actor(scope: Scope) -> str | None:
    """Who the request says that it is from, unchecked: to count requests by, and for nothing else. None
    without exactly one short name."""
    claims = [value for name, value in scope["headers"] if name in _ACTOR_HEADERS]
    if len(claims) != 1 or len(claims[0]) > _LONGEST:
        return None
    return "actor " + str(claims[0], "latin-1").lower()


def identify(request: Request) -> Actor | None:
    """The actor that the request names, None when it names none. 400 when malformed or when it names two."""
    customer, operator = _only(request, CUSTOMER_HEADER), _only(request, OPERATOR_HEADER)
    if customer is None and operator is None:
        return None
    if customer is not None and operator is not None:
        raise bad_field(
            400, "ambiguous_actor", OPERATOR_HEADER, f"sent together with {CUSTOMER_HEADER}", "send one"
        )
    if operator is not None:
        if not _OPERATOR.fullmatch(operator):
            raise bad_field(
                400, "malformed_actor", OPERATOR_HEADER, "not a name", "1 to 64 of A-Z a-z 0-9 . _ @ -"
            )
        return Actor("operator", operator)
    try:
        return Actor("customer", str(UUID(customer)))
    except ValueError:
        raise bad_field(
            400, "malformed_actor", CUSTOMER_HEADER, "not a UUID", "send the customer's id"
        ) from None


def _only(request: Request, header: str) -> str | None:
    # The first of several is not the one that a proxy in front may have checked.
    values = request.headers.getlist(header)
    if len(values) > 1:
        raise bad_field(400, "ambiguous_actor", header, "sent more than once", "send one")
    return values[0] if values else None


@reads(
    Header(CUSTOMER_HEADER, _CUSTOMER_DOC, identifies="customer"),
    Header(OPERATOR_HEADER, _OPERATOR_DOC, identifies="operator"),
)
async def optional_actor(request: Request) -> Actor | None:
    """Customer, operator or nobody."""
    return identify(request)


@reads(_AS_CUSTOMER, _AS_OPERATOR)
async def any_actor(request: Request) -> Actor:
    """Customer or operator; 401 when neither is named."""
    actor = identify(request)
    if actor is None:
        raise _unknown(f"Say who asks: {CUSTOMER_HEADER} or {OPERATOR_HEADER}.")
    return actor


@reads(_AS_CUSTOMER)
async def customer(request: Request) -> Actor:
    """A customer; 401 when nobody is named, 403 for an operator."""
    actor = identify(request)
    if actor is None:
        raise _unknown(f"Say who asks: {CUSTOMER_HEADER}.")
    if actor.kind != "customer":
        raise forbidden("Only a customer may do this.")
    return actor


@reads(_AS_OPERATOR)
async def operator(request: Request) -> Actor:
    """An operator; 401 when nobody is named, 403 for a customer."""
    actor = identify(request)
    if actor is None:
        raise _unknown(f"Say who asks: {OPERATOR_HEADER}.")
    if not actor.is_operator:
        raise forbidden("Only an operator may do this.")
    return actor


def _unknown(detail: str) -> Problem:
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": "Millrace"})


OptionalActor = Annotated[Actor | None, Depends(optional_actor)]
AnyActor = Annotated[Actor, Depends(any_actor)]
Customer = Annotated[Actor, Depends(customer)]
Operator = Annotated[Actor, Depends(operator)]
