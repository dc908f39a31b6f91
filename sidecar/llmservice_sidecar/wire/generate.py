"""Regenerate the gRPC code from inference.proto; `make generate` runs this file.

The proto is compiled under the path of the Python package, so that the generated imports work when
the package is installed; what goes over the wire is named by `package` in the proto alone.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

SOURCE_ROOT = Path(__file__).resolve().parents[2]  # the directory that holds llmservice_sidecar
PROTO = "llmservice_sidecar/wire/llmservice/inference/v1alpha1/inference.proto"


def main() -> int:
    """Write *_pb2.py, *_pb2.pyi and *_pb2_grpc.py beside the proto; protoc's exit status."""
    well_known = files("grpc_tools") / "_proto"
    status: int = protoc.main(
        [
            "protoc",
            f"--proto_path={SOURCE_ROOT}",
            f"--proto_path={well_known}",
            f"--python_out={SOURCE_ROOT}",
            f"--pyi_out={SOURCE_ROOT}",
            f"--grpc_python_out={SOURCE_ROOT}",
            PROTO,
        ]
    )
    if status == 0:
        _accept_older_grpc((SOURCE_ROOT / PROTO).with_name("inference_pb2_grpc.py"))
    return status


def _accept_older_grpc(path: Path) -> None:
    """The generated check demands the generator's own grpcio version; ours is in pyproject.toml."""
    text = path.read_text()
    path.write_text(re.sub(r"\nGRPC_GENERATED_VERSION = .*?\n\n\n", "\n\n", text, flags=re.DOTALL))


if __name__ == "__main__":
    sys.exit(main())
