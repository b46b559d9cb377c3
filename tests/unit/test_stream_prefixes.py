"""The topology knows which service has which streams."""

import pytest
from typer.testing import CliRunner

from infra import replay_cli
from infra.local.errors import StackError
from infra.topology import service_of_stream


def test_a_stream_leads_to_its_service() -> None:
    assert service_of_stream("reservation-42").name == "inventory"


def test_an_unknown_beginning_names_those_there_are() -> None:
    with pytest.raises(
        StackError, match=r"'invoice-1' is no stream .* order-… \(order\), product-… \(inventory\)"
    ):
        service_of_stream("invoice-1")


@pytest.mark.parametrize(
    ("options", "passed_on"),
    [
        ([], []),
        (["--at-version", "3", "--json"], ["--at-version", "3", "--json"]),
        (["--at-time", "10m ago", "--last", "0"], ["--at-time", "10m ago", "--last", "0"]),
    ],
)
def test_millrace_passes_the_question_on_to_the_service_that_has_the_stream(
    monkeypatch: pytest.MonkeyPatch, options: list[str], passed_on: list[str]
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(replay_cli, "_attach", lambda *words: asked.append(words))
    CliRunner().invoke(replay_cli.app, ["stream", "product-TEA-1", *options])
    assert asked == [("inventory", "stream", "product-TEA-1", *passed_on)]
