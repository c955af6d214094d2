"""Generate `vnf_pb2.py`, `vnf_pb2.pyi`, `vnf_pb2_grpc.py` and its stub from `vnf.proto`.

Run from the project's root: `python -m servernf.proto.generate [DIRECTORY]`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTO = "servernf/proto/vnf.proto"
GENERATED = ("vnf_pb2.py", "vnf_pb2.pyi", "vnf_pb2_grpc.py", "vnf_pb2_grpc.pyi")
_HEADER = "# Generated from vnf.proto by `python -m servernf.proto.generate`. Do not edit.\n"


def generate(root: Path, out: Path) -> None:
    """Write the generated files below `out`, as `servernf/proto/...`."""
    # A process of its own: protoc's protobuf and OR-Tools' abort each other in one.
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{root}"),
        *(f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}", PROTO),
    ]
    subprocess.run(command, check=True)
    folder = out / "servernf" / "proto"
    (folder / "vnf_pb2_grpc.pyi").write_text(_grpc_stub((root / PROTO).read_text()))
    for name in GENERATED:
        path = folder / name
        path.write_text(_HEADER + path.read_text())


def _grpc_stub(proto: str) -> str:
    """Types of the client and servicer classes, which protoc does not write."""
    stub = [
        "from collections.abc import Callable, Iterator",
        "",
        "import grpc",
        "",
        "from servernf.proto import vnf_pb2",
        "",
    ]
    client = ["class VnfStub:", "    def __init__(self, channel: grpc.Channel) -> None: ..."]
    servicer = ["class VnfServicer:"]
    for line in proto.splitlines():
        words = line.replace("(", " ").replace(")", " ").replace(";", "").split()
        if not words or words[0] != "rpc":
            continue
        name, request, response = words[1], words[2], words[-1]
        result = f"vnf_pb2.{response}"
        if "stream" in words:
            result = f"Iterator[{result}]"
        client.append(f"    {name}: Callable[..., {result}]")
        servicer.append(
            f"    def {name}(\n"
            f"        self, request: vnf_pb2.{request}, context: grpc.ServicerContext\n"
            f"    ) -> {result}: ..."
        )
    add = [
        "def add_VnfServicer_to_server(servicer: VnfServicer, server: grpc.Server) -> None: ...",
        "",
    ]
    return "\n".join([*stub, *client, "", *servicer, "", *add])


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    generate(here, Path(sys.argv[1]) if len(sys.argv) > 1 else here)
