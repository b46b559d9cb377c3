"""Python code and type stubs of every protocol in schemas/grpc."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from millrace.domain.errors import MillraceError

_FOLDER = Path("schemas") / "grpc"


class ProtocolError(MillraceError):
    """protoc refuses a protocol. The message is what it says."""


def grpc_code(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, what it should hold) for each file that protoc makes of the protocols in `root`; nothing is
    written there.

    Raises ProtocolError.
    """
    protocols = sorted(str(path.relative_to(root)) for path in (root / _FOLDER).glob("*.proto"))
    if not protocols:
        return
    with TemporaryDirectory() as directory:
        _run_protoc(root, Path(directory), protocols)
        for file in sorted((Path(directory) / _FOLDER).glob("*_pb2*")):
            yield root / _FOLDER / file.name, file.read_text()


def _run_protoc(root: Path, target: Path, protocols: list[str]) -> None:
    outputs = [
        f"--{kind}={target}" for kind in ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")
    ]
    includes = [f"-I{root}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    # protoc looks for the stub plug-in beside the interpreter that runs it. A process of its own: it prints a
    # lot.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *protocols],
        cwd=root,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProtocolError(done.stderr.strip() or f"protoc failed for {', '.join(protocols)}")
