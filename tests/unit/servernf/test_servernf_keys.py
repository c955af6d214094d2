"""Key files: what is read as one, here and by the process that reads for an unprivileged worker."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servernf.python.esp import KEY_BYTES
from servernf.python.keys import from_file, read_key_file

KEY = bytes(range(64))
USER = 60_999
WORKER = """
import json, sys
from servernf.python.esp import KEY_BYTES
from servernf.python.runtime.opener import Opener
opener = Opener(int(sys.argv[1]), KEY_BYTES)
for line in sys.stdin:
    try:
        print(opener.read(json.loads(line)).hex(), flush=True)
    except (ValueError, OSError) as e:
        print(json.dumps([type(e).__name__, str(e)]), flush=True)
opener.close()
try:
    opener.read("/etc/passwd")
except OSError:
    print("gone", flush=True)
"""
"""A process without threads, as a worker is before it listens: it asks its opener."""

Read = Callable[[str], bytes]


@contextmanager
def opened() -> Generator[Read]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    words = [sys.executable, "-c", WORKER, str(USER)]
    with subprocess.Popen(words, stdin=-1, stdout=-1, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        into, out = worker.stdin, worker.stdout

        def read(path: str) -> bytes:
            into.write(json.dumps(path) + "\n")
            into.flush()
            answer = out.readline().strip()
            if not answer.startswith("["):
                return bytes.fromhex(answer)
            name, text = json.loads(answer)
            raise getattr(builtins, name)(text)

        yield read
        into.close()
        assert out.readline() == "gone\n"
    assert worker.returncode == 0


@pytest.fixture(scope="module", params=["here", "opener"])
def read(request: pytest.FixtureRequest) -> Iterator[Read]:
    if request.param == "here":
        yield from_file
        return
    with opened() as reader:
        yield reader


def made(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_a_key_is_read(read: Read, tmp_path: Path) -> None:
    for name, text in (
        ("plain", KEY.hex()),
        ("lines", f" {KEY.hex().upper()}\n"),
        ("short", "00" * 48),
    ):
        expected = bytes(48) if name == "short" else KEY
        assert read(made(tmp_path / name, text)) == expected
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "plain")
    assert read(str(link)) == KEY


@pytest.mark.parametrize("text", ["root:x:0:0", "0", "zz" * 64, "00" * 3000, f"{KEY.hex()} é"])
def test_what_is_no_key_is_not_told(read: Read, tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"^no ") as e:
        read(made(tmp_path / "file", text))
    assert text not in str(e.value)


def test_what_is_no_file_is_no_key_and_nobody_waits(read: Read, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/zero", str(tmp_path)):
        with pytest.raises((ValueError, OSError)):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "absent"))


def test_the_opener_hands_over_no_length_that_keys_do_not_have(tmp_path: Path) -> None:
    with opened() as read:
        path = made(tmp_path / "short", "00" * 16)
        assert from_file(path) == bytes(16)
        for wrong in (path, "", "x" * 10_000, "a\0b"):
            with pytest.raises((ValueError, OSError)):
                read(wrong)
        for size in KEY_BYTES:
            assert read(made(tmp_path / f"key{size}", "5a" * size)) == b"\x5a" * size


def test_nfs_read_here_unless_told_otherwise(tmp_path: Path) -> None:
    assert read_key_file(made(tmp_path / "key", KEY.hex())) == KEY
