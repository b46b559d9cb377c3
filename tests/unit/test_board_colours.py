"""The page's colours: anyone who sees little contrast can read every text, in the light and in the dark."""

import re
from itertools import product

import pytest

from board.app import STATIC

ENOUGH = 4.5  # WCAG 2.2, 1.4.3: text of usual size
GROUNDS = ("page", "card", "sunk")
TEXTS = ("ink", "soft", "accent", "busy", "warn", "bad", "lost", "blind")


def colours(scheme: str) -> dict[str, str]:
    """The style sheet's colours by name, as #rrggbb."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", (STATIC / "board.css").read_text())
    return {name: dark if scheme == "dark" else light for name, light, dark in found}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_every_ground(scheme: str) -> None:
    found = colours(scheme)
    weak = {
        f"{text} on {ground}": round(ratio, 2)
        for text, ground in product(TEXTS, GROUNDS)
        if (ratio := contrast(found[text], found[ground])) < ENOUGH
    }
    assert weak == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_framed_box_can_be_read_on_its_tint(scheme: str) -> None:
    """`.box.slowest`: 11 % of what it says, on the card."""
    found = colours(scheme)
    tones = ("busy", "warn", "bad", "lost", "blind")
    tints = {tone: mixed(found[tone], found["card"], 0.11) for tone in tones}
    weak = {
        f"{text} on {tone}": round(ratio, 2)
        for tone in tones
        for text in (tone, "ink", "soft")
        if (ratio := contrast(found[text], tints[tone])) < ENOUGH
    }
    assert weak == {}


def mixed(colour: str, ground: str, share: float) -> str:
    """What color-mix(in srgb) makes of `share` of the colour and the rest of the ground."""
    parts = [
        round(int(colour[at : at + 2], 16) * share + int(ground[at : at + 2], 16) * (1 - share))
        for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)
