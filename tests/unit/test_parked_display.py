"""Ages of what is parked, as `parked list` prints them."""

import pytest

from millrace.operations.parked.display import age_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (-0.4, "0 s"), (12.0, "12 s"), (200.0, "3 min"), (-7200.0, "2 h ahead")],
)
def test_an_age_is_in_the_largest_unit_and_never_hides_a_clock_that_was_ahead(
    seconds: float, text: str
) -> None:
    assert age_text(seconds) == text
