"""No module grows beyond 500 lines, no function beyond 80; where one does, this says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES, MOST_FUNCTION_LINES = 500, 80
GENERATED = ("_pb2.py", "_pb2_grpc.py")

MOST_PARAMETERS = 9
"""Of a function in `cli`; a command with more takes a dataclass (`cli/options.py`)."""

LONG_MODULES = {
    "orchestrator/softswitch/fast/ccode/expressions.py": "one function for each kind of p4c's "
    "expressions, which ask each other; what it says of headers comes out with the engine's next change",
    "servernf/python/mappings.py": "mappings and sessions of one NAPT, which refer to each other; the "
    "dealing of ports to buckets comes out with the next change of transfer",
}
LONG_FUNCTIONS = {
    "servernf/python/runtime/worker.py: process": "the loop over a batch of packets: a call more for "
    "each of them is a tenth of a small NF's time",
}


def modules() -> Iterator[tuple[str, str]]:
    """(path, text) of what people wrote."""
    for package in ("orchestrator", "servernf"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.name.endswith(GENERATED) and "_data" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text()


def functions(name: str, text: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of the functions of a module that are long; a nested one counts in the outer."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{name}: {node.name}", lines


def test_modules_and_functions_are_short() -> None:
    texts = dict(modules())
    assert len(texts) > 300, "they are looked for in the wrong place"
    long = {name for name, text in texts.items() if text.count("\n") > MOST_LINES}
    assert sorted(long - LONG_MODULES.keys()) == []
    long_functions = dict(one for name, text in texts.items() for one in functions(name, text))
    assert {name: n for name, n in long_functions.items() if name not in LONG_FUNCTIONS} == {}
    excused = (long & LONG_MODULES.keys(), long_functions.keys() & LONG_FUNCTIONS.keys())
    assert excused == (LONG_MODULES.keys(), LONG_FUNCTIONS.keys()), (
        "short now: take it off the list"
    )


def test_commands_with_many_options_have_them_as_data() -> None:
    many = {
        f"{name}: {node.name}"
        for name, text in modules()
        if name.startswith("orchestrator/cli/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and len(node.args.args) + len(node.args.kwonlyargs) > MOST_PARAMETERS
    }
    assert many == set()
