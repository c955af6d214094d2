"""Imports stand at the top of a module. Where one does not, this says why.

A command's module is imported when its command is asked for (`orchestrator/cli/table.py`), with all
that it needs.
"""

from __future__ import annotations

import ast
from collections import Counter

from test_sizes import modules

INSIDE = {
    "orchestrator/__main__.py": (1, "Ctrl-C is heard before the commands are imported"),
    "orchestrator/cli/graphs.py": (1, "`graph check` compiles only with -t"),
    "orchestrator/cli/memory.py": (1, "scapy, for packets that most deployments do not send"),
    "orchestrator/cli/network_status.py": (1, "devices are asked only where a network is"),
    "orchestrator/deployment/adoption.py": (1, "the compiler, with its solver: to look needs none"),
    "orchestrator/deployment/equivalence.py": (1, "the compiler"),
    "orchestrator/deployment/placing.py": (1, "the compiler"),
    "orchestrator/deployment/specialising.py": (2, "the compiler"),
    "orchestrator/observation/telemetry.py": (6, "OpenTelemetry may not be there"),
    "orchestrator/verification/cle/columns.py": (2, "DuckDB may not be there"),
    "orchestrator/softswitch/__main__.py": (6, "one engine of two, once the arguments are good"),
    "servernf/python/local.py": (1, "gRPC, which a worker in memory needs only where it is called"),
}
"""How many there are, and why."""


def test_imports_stand_at_the_top() -> None:
    inside = Counter[str]()
    for path, text in modules():
        functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
        lines = {
            node.lineno
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        inside.update({path: len(lines)} if lines else {})
    assert inside == {path: count for path, (count, _) in INSIDE.items()}
