"""`python -m orchestrator.softswitch.fast`: compile process and shipped pipelines, once a version."""

from __future__ import annotations

import sys

from orchestrator.errors import ReportedError
from orchestrator.resources import shipped
from orchestrator.softswitch.fast.building import build, build_process
from orchestrator.softswitch.ir import decode_program, read_program


def main() -> int:
    """What was made, a line each; 4 and a word on standard error if something is missing."""
    try:
        print(build_process(dpdk=True))
        for path in sorted((shipped("p4src") / "build").glob("*_v1model.json")):
            print(build(read_program(decode_program(path.read_bytes()))))
    except ReportedError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
