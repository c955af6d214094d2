"""Key files: what is read as one, here and by the process that reads for an unprivileged worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servernf.esp import KEY_BYTES
from servernf.keys import from_file, read_key_file
from servernf.runtime.opener import Opener

KEY = bytes(range(64))


@pytest.fixture(params=["here", "opener"])
def read(request: pytest.FixtureRequest) -> Iterator[Callable[[str], bytes]]:
    if request.param == "here":
        yield from_file
        return
    if os.geteuid() != 0:
        pytest.skip("needs root")
    opener = Opener(60_999, KEY_BYTES)
    yield opener.read
    opener.close()


def made(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_a_key_is_read(read: Callable[[str], bytes], tmp_path: Path) -> None:
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
def test_what_is_no_key_is_not_told(
    read: Callable[[str], bytes], tmp_path: Path, text: str
) -> None:
    with pytest.raises(ValueError, match=r"^no ") as e:
        read(made(tmp_path / "file", text))
    assert text not in str(e.value)


def test_what_is_no_file_is_no_key_and_nobody_waits(
    read: Callable[[str], bytes], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/zero", str(tmp_path)):
        with pytest.raises((ValueError, OSError)):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "absent"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_opener_hands_over_no_length_that_keys_do_not_have(tmp_path: Path) -> None:
    opener = Opener(60_999, KEY_BYTES)
    path = made(tmp_path / "short", "00" * 16)
    assert from_file(path) == bytes(16)
    for wrong in (path, "", "x" * 5000, "a\0b"):
        with pytest.raises((ValueError, OSError)):
            opener.read(wrong)
    assert opener.read(made(tmp_path / "key", KEY.hex())) == KEY
    opener.close()
    with pytest.raises(OSError):  # noqa: PT011
        opener.read(path)


def test_nfs_read_here_unless_told_otherwise(tmp_path: Path) -> None:
    assert read_key_file(made(tmp_path / "key", KEY.hex())) == KEY
