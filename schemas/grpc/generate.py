"""Generates the Python code and type stubs of every `*.proto` here: `python -m schemas.grpc.generate [DIRECTORY]`.

Needs the `dev` dependencies (grpcio-tools, mypy-protobuf). A unit test fails while the generated code is stale.
"""

import os
import sys
from importlib import resources
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent.parent


def generate(directory: Path = ROOT) -> list[Path]:
    """Write the code under `directory`, at the packages' paths; returns the files written.

    Raises RuntimeError when protoc refuses a file (it says why on standard error).
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    protos = sorted(str(path.relative_to(ROOT)) for path in PACKAGE.glob("*.proto"))
    # protoc looks for the stub plug-in beside the interpreter that runs it.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    arguments = [
        "protoc",
        f"-I{ROOT}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--python_out={directory}",
        f"--grpc_python_out={directory}",
        f"--mypy_out={directory}",
        f"--mypy_grpc_out={directory}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed for {', '.join(protos)}")
    return sorted(directory.joinpath(PACKAGE.relative_to(ROOT)).glob("*_pb2*"))


if __name__ == "__main__":
    for written in generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT):
        sys.stdout.write(f"{written}\n")
