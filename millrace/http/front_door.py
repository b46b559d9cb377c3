"""What a request meets first: the hosts that are answered for, and the rate of its requester."""

import math

from starlette.types import ASGIApp, Receive, Scope, Send

from millrace.http.hosts import AllowedHosts
from millrace.http.limits import HttpLimits
from millrace.http.problems import Problem, too_many
from millrace.http.rates import TokenBuckets
from millrace.http.requester import Requesters


class FrontDoor:
    """Refuses a request with 421 or 429, or notes whose it is and lets it in."""

    def __init__(self, app: ASGIApp, limits: HttpLimits) -> None:
        self.app = app
        self._hosts = AllowedHosts(limits.allowed_hosts)
        self._requesters = Requesters(limits.trusted_proxies)
        self._buckets = TokenBuckets(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # First of all: what is refused for its host counts, too.
            late = self._buckets.take(self._requesters.note(scope))
            if late:
                raise _too_often(late)
            self._hosts.check(scope)
        await self.app(scope, receive, send)


def _too_often(late: float) -> Problem:
    retry_after = max(1, math.ceil(late))
    detail = f"Too many requests of yours: ask again in {retry_after} s, and less often."
    return too_many(detail, code="too_many_requests", retry_after=retry_after)
