"""Who may act on the board: a request with the operator token in a header, from the board's own page or from
a program."""

import hashlib
import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request

from millrace.http.problems import Problem, forbidden

log = structlog.stdlib.get_logger(__name__)

TRIES = 5
WINDOW = 60.0  # seconds
ADDRESSES = 1000  # that are remembered

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="board"'}


class OperatorAuth:
    """Holds the token, and shuts for a while for an address that showed too many wrong ones.

    The token never stands in a URL, a cookie or a log. A page from elsewhere has no way in: it can't know the
    token, may not send this header without asking first, which nobody allows, and its origin is another one.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._digest = _digest(token)
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def admit(self, request: Request) -> None:
        """Returns when the request may act. Raises Problem: 401 without the token, 403 from elsewhere, 429
        for a while."""
        _require_own_page(request)
        address = request.client.host if request.client else ""
        wrong = self._recently_wrong(address)
        if len(wrong) >= TRIES:
            wait = max(1, round(wrong[0] + WINDOW - self._clock()))
            raise Problem(429, "too_many_wrong_tokens", f"Too many wrong tokens: try again in {wait}"
                f" s.", headers={"Retry-After": str(wait)})  # fmt: skip
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem(401, "operator_token_missing", "This needs the operator token.", headers=_CHALLENGE)
        if not hmac.compare_digest(_digest(token.strip()), self._digest):
            self._remember(address, wrong)
            raise Problem(401, "operator_token_wrong", "This is not the operator token.", headers=_CHALLENGE)
        self._wrong.pop(address, None)

    def _recently_wrong(self, address: str) -> deque[float]:
        wrong = self._wrong.get(address, deque(maxlen=TRIES))
        while wrong and wrong[0] <= self._clock() - WINDOW:
            wrong.popleft()
        return wrong

    def _remember(self, address: str, wrong: deque[float]) -> None:
        wrong.append(self._clock())
        self._wrong[address] = wrong
        self._wrong.move_to_end(address)
        while len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)
        log.warning("a wrong operator token was refused", address=address, recently=len(wrong))


def _digest(token: str) -> bytes:
    # Of equal length whatever was shown: the comparison tells nothing by its time.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _require_own_page(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise forbidden("Only the board's own page, or a program, can act.")
