"""Python code and type stubs of every protocol in schemas/grpc, and the table of who may call its methods."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from millrace.domain.errors import MillraceError
from millrace.manifest import Manifest, ManifestError

_FOLDER = Path("schemas") / "grpc"
_DESCRIPTORS = "descriptors.bin"
_CALLERS = '''"""Who may call which gRPC method; everybody else is refused.

Made from each service.toml by `make generate`.
"""

CALLERS: dict[str, frozenset[str]] = {{
{rows}}}
'''


class ProtocolError(MillraceError):
    """protoc refuses a protocol. The message is what it says."""


def grpc_code(root: Path, services: Sequence[Manifest]) -> Iterator[tuple[Path, str]]:
    """(file, what it should hold) for each file that follows from the protocols in `root`; nothing is written
    there.

    Raises ProtocolError, and ManifestError when the rows of `callers` are not those of a service's methods.
    """
    protocols = sorted(str(path.relative_to(root)) for path in (root / _FOLDER).glob("*.proto"))
    methods: Mapping[str, Sequence[str]] = {}
    if protocols:
        with TemporaryDirectory() as directory:
            target = Path(directory)
            _run_protoc(root, target, protocols)
            for file in sorted((target / _FOLDER).glob("*_pb2*")):
                yield root / _FOLDER / file.name, file.read_text()
            methods = _methods((target / _DESCRIPTORS).read_bytes())
    if mistakes := [*_wrong_rows(services, methods)]:
        raise ManifestError(*mistakes)
    if protocols:
        yield root / _FOLDER / "callers.py", _callers(services, methods)


def _methods(descriptors: bytes) -> dict[str, list[str]]:
    """/package.Service/Method of each protocol, by the name of its file: users"""
    found = FileDescriptorSet.FromString(descriptors)
    return {
        Path(file.name).stem: [
            f"/{file.package}.{service.name}/{method.name}"
            for service in file.service
            for method in service.method
        ]
        for file in found.file
    }


def _wrong_rows(services: Sequence[Manifest], methods: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A protocol belongs to the service whose topic has its name: users.proto, users.events."""
    for name in sorted(methods.keys() - {one.events for one in services}):
        yield f"schemas/grpc/{name}.proto: no service has the topic {name}.events: whose methods are these?"
    for one in services:
        where, own = f"{one.package}/service.toml", {_short(each) for each in methods.get(one.events, ())}
        for method in sorted(own - one.callers.keys()):
            yield f"{where}: callers.{method}: the line is missing that says who may call it"
        for method in sorted(one.callers.keys() - own):
            yield f"{where}: callers.{method}: schemas/grpc/{one.events}.proto has no such method"


def _callers(services: Sequence[Manifest], methods: Mapping[str, Sequence[str]]) -> str:
    rows = [
        f'    "{method}": {_row(one.callers[_short(method)])},\n'
        for one in services
        for method in methods.get(one.events, ())
    ]
    return _CALLERS.format(rows="".join(rows))


def _row(callers: Sequence[str]) -> str:
    return f"frozenset({{{', '.join(map(_quoted, sorted(callers)))}}})" if callers else "frozenset()"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _short(method: str) -> str:
    return method.rpartition("/")[2]


def _run_protoc(root: Path, target: Path, protocols: list[str]) -> None:
    outputs = [
        f"--{kind}={target}" for kind in ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")
    ]
    outputs.append(f"--descriptor_set_out={target / _DESCRIPTORS}")
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
