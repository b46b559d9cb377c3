"""Asks a component over HTTP whether it is ready."""

import httpx

from infra.local.errors import NotReady


async def require_ok(url: str) -> None:
    """Returns when the URL answers 200; raises NotReady with what it said instead."""
    try:
        async with httpx.AsyncClient(timeout=4.0, trust_env=False) as client:
            answer = await client.get(url)
    except httpx.TransportError as error:
        raise NotReady(f"{url}: {error or type(error).__name__}") from error
    if answer.status_code != 200:
        raise NotReady(f"{url} answers {answer.status_code}: {answer.text[:300]}")
