"""What a watcher leaves for other commands: read while it is fresh, and never trusted further."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from orchestrator.observation.conditions import forget, record, recorded, seen
from orchestrator.observation.liveness import DOWN, SUSPECT, UP, Condition, Subject
from orchestrator.presenters.conditions import condition_words

SPINE, LINK = Subject("switch", "spine1"), Subject("link", "leaf1-spine1")
KNOWN = {SPINE: Condition(DOWN, 12.5, "nothing listens"), LINK: Condition(UP, 3.0)}


def test_they_come_back_for_their_owner_only(tmp_path: Path) -> None:
    record(str(tmp_path), KNOWN)
    assert recorded(str(tmp_path)) == KNOWN
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    forget(str(tmp_path))
    forget(str(tmp_path))
    assert recorded(str(tmp_path)) == {}


def test_old_or_damaged_ones_say_nothing(tmp_path: Path) -> None:
    record(str(tmp_path), KNOWN)
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    for at in (time.time() - 3600, time.time() + 3600, "now"):
        file.write_text(json.dumps({**document, "at": at}))
        assert recorded(str(tmp_path)) == {}
    for text in ("", "[]", json.dumps({**document, "conditions": [["spine1", "dead"]]})):
        file.write_text(text)
        assert recorded(str(tmp_path)) == {}


def test_looks_know_since_when() -> None:
    first = seen({SPINE: "", LINK: "no carrier"}, {}, 1.0)
    again = seen({SPINE: "no answer", LINK: "no carrier"}, first, 2.0)
    assert again == {
        SPINE: Condition(DOWN, 2.0, "no answer"),
        LINK: Condition(DOWN, 1.0, "no carrier"),
    }


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (None, "unknown"),
        (Condition(UP, 5.0), "up"),
        (Condition(SUSPECT, 0.0, "no answer"), "suspect since "),
    ],
)
def test_words(condition: Condition | None, words: str) -> None:
    assert condition_words(condition).startswith(words)
