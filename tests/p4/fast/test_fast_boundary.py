"""The fast engine's process: hostile messages, its end, the compiler's warnings, the cache's folder.

Oracle: c/boundary.h. Blind spot: messages that a fuzzer would find only after more than these.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finsy.proto import p4i, p4r

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "softswitch"))

import bmv2_programs as by_hand
from softswitch_support import p4info, program

from orchestrator.errors import SwitchError
from orchestrator.softswitch.fast import building
from orchestrator.softswitch.fast.device import EngineProcess, EngineRequest, LoadedProgram
from orchestrator.softswitch.fast.engine import FastEngine
from orchestrator.softswitch.fast.plain import reader
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.ir import read_program
from orchestrator.softswitch.verifier import Verifier
from servernf.host import cache
from servernf.host.compiling import C

pytestmark = pytest.mark.skipif(
    building.compiler() is None, reason="no C compiler (cc) is installed"
)


@pytest.fixture(scope="module")
def executable() -> Path:
    return building.build_process(sanitized=True)


@pytest.fixture
def process(executable: Path) -> Iterator[EngineProcess]:
    with EngineProcess(executable) as process:
        process.greet(0)
        yield process


@pytest.fixture
def device(process: EngineProcess) -> LoadedProgram:
    return process.load(building.build(read_program(program("router")), sanitized=True))


def test_messages_of_strangers_are_refused_and_change_nothing(device: LoadedProgram) -> None:
    rng = random.Random(5)
    refused = 0
    for _ in range(3000):
        kind = rng.choice(
            [k for k in EngineRequest if k not in (EngineRequest.MEASURE, EngineRequest.UNLOAD)]
        )
        words = [rng.choice((0, 1, 2, 3, 9, 255, 1 << 31, rng.getrandbits(32))) for _ in range(30)]
        payload = struct.pack("=30I", *words)[: rng.randrange(120)]
        try:
            device.process.ask(kind, payload, rng.choice((0, 0, 0, 1, 8, 1 << 31)))
        except SwitchError as error:
            refused += "refuses" in str(error)
    assert refused > 1000
    assert device.state().faults == 0  # it is still there


def test_programs_come_and_go_beside_each_other(process: EngineProcess) -> None:
    engine = building.build(read_program(by_hand.small()), sanitized=True)
    loaded = [process.load(engine) for _ in range(8)]
    with pytest.raises(SwitchError, match="as many programs"):
        process.load(engine)
    for device in loaded:
        assert device.packets(0, [(1, bytes(20))])
    loaded[3].unload()
    with pytest.raises(SwitchError, match="no program"):
        loaded[3].state()
    assert process.load(engine).slot == 3
    assert loaded[7].state().received == 1


def test_what_is_no_engine_is_refused(process: EngineProcess, executable: Path) -> None:
    for path in (Path("/nonexistent"), Path(os.devnull), executable):
        with pytest.raises(SwitchError, match="refuses"):
            process.load(path)


def test_a_dead_process_is_an_error_that_says_so(process: EngineProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(SwitchError, match=r"process is gone.*SIGKILL"):
        process.drops()
    assert not process.take_told()


def test_the_process_ends_with_its_parent(executable: Path) -> None:
    process = EngineProcess(executable)
    process.greet(0)
    pid = process.pid
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_runtime_compiles_without_a_warning(tmp_path: Path) -> None:
    try:
        flags = building.dpdk_flags()[0]
    except SwitchError:
        flags = ()
    for path in sorted((*building.RUNTIME.glob("*.c"), *C.glob("*.c"))):
        if path.name == "ports_dpdk.c" and not flags:
            continue
        words = [
            "cc",
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Wshadow",
            "-Werror",
            f"-I{C}",
            *flags,
            "-c",
        ]
        subprocess.run([*words, str(path), "-o", str(tmp_path / "out.o")], check=True)


def test_a_program_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = building.build(read_program(by_hand.small()))
    made = first.stat().st_ino
    assert building.build(read_program(by_hand.small())) == first
    assert first.stat().st_ino == made
    other = by_hand.small()
    other["actions"][0]["primitives"] = [by_hand.send_to(3)]
    assert building.build(read_program(other)) != first


def test_a_cache_that_others_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.folder_of_user().chmod(0o777)
    with pytest.raises(SwitchError, match="others can write there"):
        building.build(read_program(by_hand.small()))


def test_what_was_used_the_longest_ago_is_removed_from_the_cache(tmp_path: Path) -> None:
    now = time.time()
    for age in range(1, 9):
        path = tmp_path / f"{age}"
        path.write_bytes(bytes(100))
        os.utime(path, (now, now - age * cache.KEPT_S / 4))
    left_over = tmp_path / "making-of-a-dead-process"
    left_over.mkdir()
    os.utime(left_over, (now, now - 2 * cache.KEPT_S))
    cache.prune(tmp_path, 650)
    left = sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("lock-"))
    assert left == ["1", "2", "3", "4", "5", "6"]
    cache.prune(tmp_path, 100)
    left = sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("lock-"))
    assert left == ["1", "2", "3"], "used a moment ago"


def test_using_a_file_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "MAX_BYTES", 10)
    made = [cache.kept(name, lambda path: _written(path)) for name in ("a1", "b2", "c3")]
    assert all(path.exists() for path in made)
    for path in made:
        os.utime(path, (0, 0))
    assert cache.kept("b2", lambda path: pytest.fail("it is there")) == made[1]
    cache.prune(made[0].parent, 10)
    assert [path.exists() for path in made] == [False, True, False]


def test_one_process_makes_what_several_want(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    begun: list[Path] = []

    def make(path: Path) -> None:
        begun.append(path)
        time.sleep(0.1)  # the others come meanwhile
        _written(path)

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: cache.kept("ab", make), range(8)))
    assert len(begun) == len(paths) == 1
    assert paths.pop().read_bytes() == bytes(100)


def test_what_could_not_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(path: Path) -> None:
        _written(path)
        raise SwitchError("no")

    with pytest.raises(SwitchError, match="no"):
        cache.kept("ab", fail)
    assert [p.name for p in cache.folder_of_user().iterdir()] == ["lock-a"]
    assert cache.kept("ab", _written).exists()


def test_the_folder_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    words = "from servernf.host import cache; print(cache._own_folder(), flush=True); input()"
    made: list[Path] = []
    processes: list[subprocess.Popen[str]] = []
    for _ in range(2):
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", words],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        out = processes[-1].stdout
        assert out is not None
        made.append(Path(out.readline().strip()))
    processes[0].kill()
    processes[0].wait()
    cache.remove_abandoned(tmp_path)
    assert [path.exists() for path in made] == [False, True]
    processes[1].communicate("\n")
    assert not list(tmp_path.iterdir())


def _written(path: Path) -> None:
    path.write_bytes(bytes(100))


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with FastSwitch() as fast, pytest.raises(SwitchError, match="no C compiler"):
        fast.load(by_hand.small(), p4i.P4Info())


def test_a_program_is_compiled_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader(sanitized=False)  # it is loaded once a process, from another folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "SHARED", tmp_path / "none")
    here = os.getpid()

    def find(config: p4r.ForwardingPipelineConfig) -> None:
        assert os.getpid() != here
        FastSwitch().verify_config(config)

    verifier = Verifier(find)
    try:
        with FastSwitch() as fast:
            engine = FastEngine(fast, verifier)
            raw = json.dumps(program("router")).encode()
            good = p4r.ForwardingPipelineConfig(p4_device_config=raw, p4info=p4info("router"))
            engine.verify(good)
            made = {p.name for p in cache.folder_of_user().iterdir() if len(p.name) == 64}
            assert len(made) == 1
            bad = p4r.ForwardingPipelineConfig(p4_device_config=raw, p4info=p4info("features"))
            for refuse in (engine.verify, engine.save):
                with pytest.raises(SwitchError, match="is not in the BMv2 JSON"):
                    refuse(bad)
            engine.save(good)
            engine.commit()
            assert engine.configured
            after = {p.name for p in cache.folder_of_user().iterdir() if len(p.name) == 64}
            assert len(after) == 2, "the program once, and the process"
    finally:
        verifier.close()


def test_entries_stay_after_a_new_program_was_refused() -> None:
    with FastSwitch() as fast:
        fast.load(program("router"), p4info("router"))
        with pytest.raises(SwitchError):
            fast.load(program("router"), p4info("features"))
        assert fast.process(1, bytes(64)) == []
