"""Packet tests (.p4 + .stf) on both engines of softswitch, and on BMv2 where it is present.

    python tests/p4/conformance/run.py /path/to/p4c [--json] [--only PATTERN] [--timeout S]

The argument is a p4c checkout (its testdata/p4_16_samples is taken) or any
folder with .p4 and .stf files; programs that do not include v1model are left
out. Needs p4c-bm2-ss on PATH. The C engine must do as the Python engine does, or
refuse the program by name. Exit code 1 when it does not, or when BMv2 passes
a test that softswitch does not.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from conformance_engines import (  # noqa: E402
    BMV2,
    Compiled,
    NotRun,
    Refused,
    Unsupported,
    run_bmv2,
    run_fast,
    run_softswitch,
)
from conformance_stf import Step, parse, verdict  # noqa: E402
from finsy.proto import p4i  # noqa: E402
from google.protobuf import text_format  # noqa: E402

from orchestrator.softswitch.fast.building import compiler  # noqa: E402

P4C = shutil.which("p4c-bm2-ss")
PASS = "pass"
ABSENT = "absent"
UNSUPPORTED = "unsupported:"
NOT_RUN = "not run:"


@dataclass(frozen=True, slots=True)
class Result:
    """`softswitch` and `bmv2` are 'pass', 'absent' or why not.

    `fast` is of the C engine: 'pass' where it does as the Python engine does, 'unsupported: ' and what
    it refuses, 'absent', or what it does instead.
    """

    name: str
    softswitch: str
    bmv2: str
    differs: str = ""
    fast: str = ABSENT

    @property
    def group(self) -> str:
        ours, theirs = self.softswitch == PASS, self.bmv2 == PASS
        if self.softswitch.startswith("does not compile"):
            return "does not compile"
        if self.bmv2 == ABSENT or self.bmv2.startswith(NOT_RUN):
            return "passes" if ours else "fails"
        if self.differs or ours != theirs:
            return "differs"
        return "passes both" if ours else "fails both"


def compile_program(path: Path, folder: Path, timeout: float) -> Compiled | str:
    """The compiled program, or why p4c does not compile it."""
    out, info = folder / f"{path.stem}.json", folder / f"{path.stem}.txtpb"
    command = [str(P4C), "--p4runtime-files", str(info), "-o", str(out), str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, cwd=path.parent
        )
    except subprocess.TimeoutExpired:
        return f"p4c takes more than {timeout:g} s"
    if done.returncode or not out.exists():
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        return (lines or ["p4c failed"])[0].strip()[:160]
    raw = out.read_bytes()
    p4info = text_format.Parse(info.read_text(), p4i.P4Info())
    return Compiled(path.stem, json.loads(raw), raw, p4info)


def attempt(
    steps: Sequence[Step], run: object, *arguments: object
) -> tuple[str, dict[int, list[bytes]]]:
    """(verdict, outputs) of one engine."""
    try:
        got = run(*arguments)  # type: ignore[operator]
    except Unsupported as e:
        return f"{UNSUPPORTED} {e}"[:300], {}
    except Refused as e:
        return f"refused: {e}"[:300], {}
    except NotRun as e:
        return f"{NOT_RUN} {e}", {}
    except TimeoutError:
        return "timeout", {}
    except Exception as e:
        return f"{type(e).__name__}: {e}"[:300], {}
    return verdict(steps, got) or PASS, got


def as_python(
    steps: Sequence[Step], program: Compiled, timeout: float, ours: str, got: dict[int, list[bytes]]
) -> str:
    """Whether the C engine does what the Python engine did."""
    theirs, their_got = attempt(steps, run_fast, program, steps, timeout)
    if theirs.startswith(UNSUPPORTED):
        return theirs
    both_fault = ours.startswith("refused: fault") and theirs == "refused: fault"
    if both_fault or (ours, got) == (theirs, their_got):
        return PASS
    return f"differs: {theirs}, where the Python engine says {ours}"


def judge(
    path: Path, stf: Path, timeout: float, with_bmv2: bool = True, with_fast: bool = True
) -> Result:
    with tempfile.TemporaryDirectory(prefix="conformance") as folder:
        program = compile_program(path, Path(folder), timeout)
    if isinstance(program, str):
        return Result(path.stem, f"does not compile: {program}", ABSENT)
    steps = parse(stf)
    ours, got = attempt(steps, run_softswitch, program, steps, time.monotonic() + timeout)
    fast = ABSENT
    if with_fast and compiler() is not None:
        fast = as_python(steps, program, timeout, ours, got)
    if BMV2 is None or not with_bmv2:
        return Result(path.stem, ours, ABSENT, fast=fast)
    wanted = sum(map(len, got.values()))
    deadline = time.monotonic() + timeout
    theirs, their_got = attempt(steps, run_bmv2, program, steps, deadline, wanted)
    differs = ""
    if ours == PASS and theirs == PASS and got != their_got:
        differs = "both pass, with different bytes where the test does not look"
    return Result(path.stem, ours, theirs, differs, fast)


def find_tests(root: Path, only: str) -> Iterator[tuple[Path, Path]]:
    samples = root / "testdata" / "p4_16_samples"
    folder = samples if samples.is_dir() else root
    for stf in sorted(folder.glob("*.stf")):
        path = stf.with_suffix(".p4")
        if path.exists() and "v1model" in path.read_text() and fnmatch.fnmatch(stf.stem, only):
            yield path, stf


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    cli.add_argument("folder", type=Path, help="a p4c checkout, or a folder of .p4 and .stf")
    cli.add_argument("--json", action="store_true", help="print results as JSON")
    cli.add_argument("--only", default="*", metavar="PATTERN", help="names of tests, as in union*")
    cli.add_argument("--timeout", type=float, default=20, metavar="S", help="a test, each engine")
    cli.add_argument("--no-bmv2", action="store_true", help="leave BMv2 out")
    cli.add_argument("--no-fast", action="store_true", help="leave the C engine out")
    args = cli.parse_args(argv)
    if P4C is None:
        print("p4c-bm2-ss is not on PATH", file=sys.stderr)
        return 4
    tests = list(find_tests(args.folder, args.only))
    if not tests:
        print(f"{args.folder}: no .stf beside a v1model .p4", file=sys.stderr)
        return 2
    results: list[Result] = []
    for i, (path, stf) in enumerate(tests):
        results.append(judge(path, stf, args.timeout, not args.no_bmv2, not args.no_fast))
        if sys.stderr.isatty():
            print(f"\r{i + 1}/{len(tests)}", end="", file=sys.stderr)
    groups = Counter(r.group for r in results)
    fast = Counter(r.fast.partition(":")[0] for r in results)
    worse = [r for r in results if r.bmv2 == PASS and r.softswitch != PASS]
    worse += [r for r in results if r.fast.startswith("differs")]
    if args.json:
        rows = [{**asdict(r), "group": r.group} for r in results]
        print(json.dumps({"groups": groups, "fast": fast, "results": rows}, indent=1))
        return int(bool(worse))
    for r in results:
        if r.group not in ("passes", "passes both") or r.fast not in (PASS, ABSENT):
            print(f"{r.group:17} {r.name}")
            engines = (("softswitch", r.softswitch), ("bmv2", r.bmv2), ("C engine", r.fast))
            for engine, text in engines:
                if text not in (PASS, ABSENT):
                    print(f"{'':17}   {engine}: {text}")
            if r.differs:
                print(f"{'':17}   {r.differs}")
    print()
    for group, count in groups.most_common():
        print(f"{group:17} {count:4}")
    for did, count in fast.most_common():
        print(f"{'C engine: ' + did:22} {count:4}")
    print(f"{'total':17} {len(results):4}" + ("" if BMV2 else "   (BMv2 is not installed)"))
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
