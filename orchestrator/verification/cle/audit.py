"""Whether a log is what its CLE sealed, and whether it still leads through heads that others kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.verification.cle.intake import says_how_far
from orchestrator.verification.cle.seals import Head, two_stories
from orchestrator.verification.cle.segments import (
    Damaged,
    LogEntry,
    Start,
    read_segment,
    segment_files,
)


@dataclass(frozen=True, slots=True)
class Audit:
    """The first and the last entry that are there, and everything that is wrong."""

    first: int
    last: int
    problems: tuple[str, ...]


def audit(
    folder: Path, public: str, kept: Iterable[Head] = (), segments: Iterable[Path] | None = None
) -> Audit:
    """Look at a log, or the segments given: hashes, signatures, segments in a row, and the heads that
    others kept.

    Edits break a hash or a signature; deletions and late additions leave a kept head beside the chain;
    two heads of one index are two stories. Old segments may be gone (retention): what is kept of
    before the first entry cannot be looked at any more, and says nothing.
    """
    problems: list[str] = []
    kept = list(kept)
    reached: dict[int, bytes] = {}
    first = last = sealed = 0
    end: bytes | None = None
    for path in segment_files(folder) if segments is None else segments:
        try:
            for item in read_segment(path):
                match item:
                    case Start():
                        if end is None:
                            first = item.index + 1
                            reached[item.index] = item.hash
                        elif (item.index, item.hash) != (last, end):
                            problems.append(f"{path}: does not go on where the one before it ends")
                        last, end = item.index, item.hash
                    case LogEntry():
                        last = item.index
                    case Head():
                        if not item.is_of(public):
                            problems.append(
                                f"{path}: the seal of entry {item.index} is not the CLE's"
                            )
                        sealed, end = item.index, item.hash
                        reached[item.index] = item.hash
        except Damaged as error:
            problems += error.problems
            break
    if last > sealed and last >= first:
        problems.append(f"{folder}: entries {sealed + 1} to {last} are not sealed")
    problems += _beside(kept, reached, first, public)
    problems += [
        f"two stories: the CLE signed {a.hash.hex()[:16]} and {b.hash.hex()[:16]} as entry {a.index}"
        for a, b in two_stories(kept, public)
    ]
    return Audit(first, last, tuple(problems))


def _beside(
    kept: Iterable[Head], reached: dict[int, bytes], first: int, public: str
) -> Iterator[str]:
    for head in kept:
        if not head.is_of(public):
            yield f"a head of entry {head.index} that was kept is not the CLE's"
        elif head.index >= max(first - 1, 1) and reached.get(head.index) != head.hash:
            yield (
                f"the CLE signed {head.hash.hex()[:16]} as entry {head.index}, "
                f"and the log does not lead there"
            )


def newest(folder: Path) -> list[Path]:
    """The newest segment that says how far points' records are taken, and later ones; else all."""
    files = segment_files(folder)
    for at in range(len(files) - 1, -1, -1):
        first = next((item for item in read_segment(files[at]) if isinstance(item, LogEntry)), None)
        if first is not None and says_how_far(first):
            return files[at:]
    return files


def entries(folder: Path, segments: Iterable[Path] | None = None) -> Iterator[LogEntry]:
    """The sealed entries of a log, or of the segments given, in order; Damaged where it breaks."""
    for path in segment_files(folder) if segments is None else segments:
        waiting: list[LogEntry] = []
        for item in read_segment(path):
            if isinstance(item, LogEntry):
                waiting.append(item)
            elif isinstance(item, Head):
                yield from waiting
                waiting.clear()
