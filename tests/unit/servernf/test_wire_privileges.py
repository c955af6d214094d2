"""Root's rights are given up by every thread and for good. Oracle: the kernel, from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError
from servernf.host.privileges import drop, user_number

USER = 60_999
PROGRAM = """
import ctypes, json, os, sys, threading
from servernf.host.privileges import CAP_DAC_READ_SEARCH, confine, drop

libc = ctypes.CDLL(None)
libc.prctl(1, 9, 0, 0, 0)  # killed when the parent ends
confine()
go, done = threading.Event(), threading.Event()
def other():
    go.wait()
    said["thread"] = open("/proc/thread-self/status").read()
    done.set()
said = {}
threading.Thread(target=other, daemon=True).start()
keep = [CAP_DAC_READ_SEARCH] if sys.argv[2] == "reader" else []
drop(int(sys.argv[1]), keep)
go.set(); done.wait()
said["main"] = open("/proc/self/status").read()
for path in (sys.argv[3], "/proc/self/mem"):
    try:
        said[path] = open(path).read(0) + "opened"
    except OSError as error:
        said[path] = error.strerror
try:
    os.setuid(0)
    said["root"] = "again"
except OSError as error:
    said["root"] = error.strerror
signal = ctypes.c_int(0)
libc.prctl(2, ctypes.byref(signal), 0, 0, 0)
said["death"] = signal.value
said["dumpable"] = libc.prctl(3, 0, 0, 0, 0)
print(json.dumps(said))
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def dropped(role: str, secret: Path) -> dict[str, Any]:
    secret.write_text("x")
    secret.chmod(0o600)
    words = [sys.executable, "-c", PROGRAM, str(USER), role, str(secret)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status(text: str) -> dict[str, list[str]]:
    return {
        name: rest.split() for name, _, rest in (line.partition(":") for line in text.splitlines())
    }


@needs_root
def test_every_thread_has_nothing_left(tmp_path: Path) -> None:
    said = dropped("plain", tmp_path / "secret")
    for thread in ("main", "thread"):
        fields_of = status(said[thread])
        assert fields_of["Uid"] == fields_of["Gid"] == [str(USER)] * 4
        assert fields_of["Groups"] == []
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert fields_of[name] == ["0000000000000000"], name
        assert fields_of["NoNewPrivs"] == ["1"]
    assert said[str(tmp_path / "secret")] == "Permission denied"
    assert said["root"] == "Operation not permitted"
    assert said["death"] == 9
    assert said["dumpable"] == 0


@needs_root
def test_a_reader_of_files_has_that_one_right(tmp_path: Path) -> None:
    said = dropped("reader", tmp_path / "secret")
    fields_of = status(said["main"])
    assert fields_of["CapEff"] == fields_of["CapPrm"] == ["0000000000000004"]
    assert fields_of["CapBnd"] == fields_of["CapInh"] == ["0000000000000000"]
    assert said[str(tmp_path / "secret")] == "opened"
    assert said["root"] == "Operation not permitted"


@pytest.mark.parametrize("text", ["0", "-1", "nobody", "4294967295", ""])
def test_root_is_nobody_to_become(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        user_number(text)


def test_only_root_becomes_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="only root can become another user"):
        drop(USER)
