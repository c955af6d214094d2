"""What outlasts a process: answers in files, by what was asked. Nothing depends on them but time.

An answer is found by the digest of its question and of this very code, so another version asks anew. It
carries the digest of itself: what is damaged, cut short or of somebody else is removed, never believed.
Where nothing can be written nothing is kept. The answers that were not asked for the longest go first.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

MOST_BYTES = 256 << 20
"""Of all answers together; one alone may have a quarter."""
_MAGIC = b"durable1"
_DIGEST_BYTES = 16
_SUFFIX = ".answer"


class Durable:
    """A folder of answers. Several processes may use it at once: a file is there whole or not at all."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def get(self, *question: bytes | str) -> bytes | None:
        """The answer to a question; None: nobody knows it any more."""
        path = self._path(question)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        head = len(_MAGIC) + _DIGEST_BYTES
        answer = data[head:]
        if data[:head] != _MAGIC + _digest(answer):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # asked for lately
        return answer

    def put(self, answer: bytes, *question: bytes | str) -> None:
        """Keep the answer to a question, if there is room for it."""
        if len(answer) > self.most_bytes // 4:
            return
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(answer))
            descriptor, written = tempfile.mkstemp(dir=self.folder, suffix=".new")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_MAGIC + _digest(answer))
                    file.write(answer)
                os.replace(written, self._path(question))
            except BaseException:
                os.unlink(written)
                raise

    def forget(self, *question: bytes | str) -> None:
        """What was kept turned out to be of no use."""
        with suppress(OSError):
            self._path(question).unlink()

    def _path(self, question: tuple[bytes | str, ...]) -> Path:
        digest = blake2b(code_digest(), digest_size=_DIGEST_BYTES)
        for part in question:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
        return self.folder / f"{digest.hexdigest()}{_SUFFIX}"

    def _make_room(self, size: int) -> None:
        """Remove what was not asked for the longest, and what writers left who were killed."""
        oldest_first = sorted(
            (stat.st_mtime_ns, stat.st_size, path) for path, stat in self._files()
        )
        total = size + sum(size for _, size, _ in oldest_first)
        for _, freed, path in oldest_first:
            if total <= self.most_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= freed

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        files: list[tuple[Path, os.stat_result]] = []
        for path in self.folder.iterdir():
            with suppress(OSError):
                files.append((path, path.stat()))
        return files


@cache
def code_digest() -> bytes:
    """16 bytes of all Python code that could have made an answer, and of the interpreter."""
    packages = (Path(__file__).parent, Path(__file__).parents[1] / "servernf")
    digest = blake2b(sys.version.encode(), digest_size=_DIGEST_BYTES)
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            digest.update(_digest(str(path.relative_to(package)).encode()))
            digest.update(_digest(path.read_bytes()))
    return digest.digest()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
