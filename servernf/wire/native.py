"""The C of this folder as a shared object beside it, for those who want it in Python.

`python -m servernf.wire.native` makes it with the system's compiler; so do the build of a wheel and the
setup of a checkout. Where there is none, or one of other sources, Python does the same, more slowly.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

_HERE = Path(__file__).parent
SOURCES = ("prf.c", "prf.h")
OBJECT = "_prf.so"
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
_STAMP = b"servernf wire sources "
"""Before the digest of the sources, behind the object's own end: loaders do not read there."""
_COMPILE_S = 120
_ROOM = 64
"""Packets of a batch, mostly."""


class Library:
    """The functions of `prf.h`.

    They take less time than to let go of the interpreter's lock and take it again. Nor are their types
    declared: ctypes then passes ints as C's, which takes a third of the time of a call.
    """

    def __init__(self, path: Path) -> None:
        made = ctypes.PyDLL(str(path))
        self._places, self._words = made.prf_places, made.prf_words
        self._of_one, self._of_two = made.prf_of_one, made.prf_of_two
        for function in (self._places, self._words, self._of_one, self._of_two):
            function.restype = ctypes.c_uint32

    def prf(self, count: int) -> Callable[..., int]:
        """The PRF of two words of a key and `count` of a message, each of 32 bits."""
        if count in (1, 2):
            return self._of_one if count == 1 else self._of_two
        of_words, pack = self._words, struct.Struct(f"={count}I").pack
        return lambda key0, key1, *words: of_words(key0, key1, pack(*words), count)

    def places(self, key0: int, key1: int, below: int, of: int) -> Callable[[bytes], Sequence[int]]:
        """Tells the places of packets whose PRF is below, in order, of contexts (16 bytes of each)."""
        question = key0, key1, ctypes.c_uint64(below), of
        asked, room = partial(self._places, *question), (ctypes.c_uint32 * _ROOM)()

        def places(contexts: bytes) -> Sequence[int]:
            nonlocal room
            count = len(contexts) >> 4
            if count > len(room):
                room = (ctypes.c_uint32 * count)()
            due = asked(contexts, count, room)
            return room[:due] if due else ()

        return places


@cache
def library() -> Library | None:
    """What has been made of these sources; None: nothing, or it does not load."""
    path = _HERE / OBJECT
    try:
        if not path.read_bytes().endswith(_stamp(_HERE)):
            return None
        return Library(path)
    except (OSError, AttributeError):
        return None


def build(folder: Path = _HERE) -> bool:
    """Make the object in a folder that holds the sources; whether there is a compiler that does."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work) / OBJECT
        words = [compiler, *FLAGS, "-o", str(made), str(folder / SOURCES[0])]
        try:
            run = subprocess.run(words, capture_output=True, timeout=_COMPILE_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        if run.returncode:
            return False
        with made.open("ab") as file:
            file.write(_stamp(folder))
        os.replace(made, folder / OBJECT)  # at once: somebody may be loading it
    return True


def _stamp(folder: Path) -> bytes:
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((folder / name).read_bytes())
    return _STAMP + digest.digest()


if __name__ == "__main__":
    sys.exit(0 if build() else "native: no C compiler that compiles servernf/wire/prf.c")
