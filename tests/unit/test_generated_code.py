"""The generated gRPC code is what the protocols say now."""

from pathlib import Path

import pytest

from schemas.grpc.generate import PACKAGE, generate


def test_the_generated_code_is_not_stale(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fresh = {path.name: path.read_text() for path in generate(tmp_path)}
    committed = {path.name: path.read_text() for path in PACKAGE.glob("*_pb2*")}
    capfd.readouterr()  # the generator is talkative
    assert fresh, "nothing was generated"
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert not stale, f"run `make proto`: {', '.join(stale)}"
