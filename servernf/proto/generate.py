"""Generate `NAME_pb2.py`, `NAME_pb2.pyi`, `NAME_pb2_grpc.py` and its stub from each `NAME.proto`.

Run from the project's root: `python -m servernf.proto.generate [DIRECTORY]`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTOS = ("vnf", "agent", "cle")
_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
GENERATED = tuple(name + suffix for name in PROTOS for suffix in _SUFFIXES)
_FOLDER = Path("servernf", "proto")


def generate(root: Path, out: Path) -> None:
    """Write the generated files below `out`, as `servernf/proto/...`."""
    sources = [str(_FOLDER / f"{name}.proto") for name in PROTOS]
    # A process of its own: protoc's protobuf and OR-Tools' abort each other in one.
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{root}"),
        *(f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}", *sources),
    ]
    subprocess.run(command, check=True)
    folder = out / _FOLDER
    for name in PROTOS:
        header = (
            f"# Generated from {name}.proto by `python -m servernf.proto.generate`. Do not edit.\n"
        )
        stub = _grpc_stub(name, (root / _FOLDER / f"{name}.proto").read_text())
        (folder / f"{name}_pb2_grpc.pyi").write_text(stub)
        for path in (folder / (name + suffix) for suffix in _SUFFIXES):
            path.write_text(header + path.read_text())


def _grpc_stub(name: str, proto: str) -> str:
    """Types of the client and servicer classes, which protoc does not write."""
    service, messages = name.capitalize(), f"{name}_pb2"
    iterator = ", Iterator" if "(stream " in proto else ""
    stub = [
        f"from collections.abc import Callable{iterator}",
        "",
        "import grpc",
        "",
        f"from servernf.proto import {messages}",
        "",
    ]
    client = [
        f"class {service}Stub:",
        "    def __init__(self, channel: grpc.Channel) -> None: ...",
    ]
    servicer = [f"class {service}Servicer:"]
    for line in proto.splitlines():
        words = line.replace("(", " ").replace(")", " ").replace(";", "").split()
        if not words or words[0] != "rpc":
            continue
        asks, answers = words[2 : words.index("returns")], words[words.index("returns") + 1 :]
        call = words[1]
        request, result = f"{messages}.{asks[-1]}", f"{messages}.{answers[-1]}"
        if "stream" in answers:
            result = f"Iterator[{result}]"
        named = f"request: {request}"
        if "stream" in asks:
            named = f"request_iterator: Iterator[{request}]"
        client.append(f"    {call}: Callable[..., {result}]")
        servicer.append(
            f"    def {call}(\n"
            f"        self, {named}, context: grpc.ServicerContext\n"
            f"    ) -> {result}: ..."
        )
    add = [
        f"def add_{service}Servicer_to_server("
        f"servicer: {service}Servicer, server: grpc.Server) -> None: ...",
        "",
    ]
    return "\n".join([*stub, *client, "", *servicer, "", *add])


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    generate(here, Path(sys.argv[1]) if len(sys.argv) > 1 else here)
