"""Takes the framework without the shop, by the commands of docs/how-to/remove-the-shop.md, in a clone of what
is committed.

    .venv/bin/python .ci/without_shop.py

What is left is linted, gets a service, tests it, runs it and audits it.
"""

import sys
import time
from uuid import uuid4

import httpx
from checkout import Failed, cloned, say, url

from tests.docs import ROOT, commands_in, section

PAGE = ROOT / "docs" / "how-to" / "remove-the-shop.md"
ANSWERS_WITHIN = 60.0


def main() -> int:
    commands = commands_in(section(PAGE, "A clone"))
    started = time.monotonic()
    with cloned() as checkout:
        for words in commands:
            checkout.run(*words)
            if words == ["make", "up"]:
                a_payment_is_kept_and_seen()
        left = [one.name for one in checkout.path.glob("*_service")]
    if left != ["payment_service"]:
        raise Failed(f"these services are left: {left}")
    say(f"The framework without the shop: {time.monotonic() - started:.0f} s.")
    return 0


def a_payment_is_kept_and_seen() -> None:
    headers = {"X-Customer-Id": str(uuid4())}
    with httpx.Client(trust_env=False, timeout=15) as http:
        opened = http.post(url(8001) + "/payments", json={"subject": "tea"}, headers=headers).json()
        kept = url(8001) + f"/payments/{opened['payment_id']}?min_version=1&wait=10"
        if http.get(kept, headers=headers).json()["subject"] != "tea":
            raise Failed("the payment is not what was asked for")
        deadline = time.monotonic() + ANSWERS_WITHIN
        while "up to date" not in (said := http.get(url(8080) + "/board.json").json()["headline"]["text"]):
            if time.monotonic() > deadline:
                raise Failed(f"the board says: {said}")
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
