"""A running version's entries stay bytes; what is made of them, or is equal, is as if they did not."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import campus, compiled

from orchestrator.bundle.codec import dump, load, serialised
from orchestrator.bundle.index import index_of, read_index
from orchestrator.deployment.journal import Deployed, Journal, now, sqlite_store
from orchestrator.errors import InputError
from orchestrator.linker.sharing import share
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Entries, LazyEntries

BUNDLE = compiled(campus()).bundle
WRITTEN = serialised(BUNDLE)
DATA = dump(BUNDLE, WRITTEN)
INDEX = index_of(BUNDLE, WRITTEN)


def read() -> Bundle:
    return load(DATA, "journal", read_index(INDEX))


def made(bundle: Bundle) -> int:
    """Parts whose entries were made."""
    return sum(
        isinstance(part.entries, LazyEntries) and part.entries.is_made
        for program in bundle.programs.values()
        if isinstance(program.entries, Entries)
        for part in program.entries.parts
    )


def test_it_says_what_the_bundle_says() -> None:
    read_back = read()
    assert not made(read_back)
    for name, program in BUNDLE.programs.items():
        assert read_back.programs[name].entries_by_table() == program.entries_by_table()
    assert not made(read_back)
    assert read_back == load(DATA, "journal")
    assert made(read_back)


def test_it_is_written_as_it_was_read() -> None:
    read_back = read()
    assert dump(read_back) == DATA
    assert not made(read_back)
    assert index_of(read_back, serialised(read_back)) == INDEX


def test_what_is_compiled_again_has_the_very_parts_that_it_had() -> None:
    kept, again = read(), compiled(campus()).bundle
    shared = share(again, kept)
    for name, program in shared.programs.items():
        entries, before = program.entries, kept.programs[name].entries
        assert isinstance(entries, Entries)
        assert isinstance(before, Entries)
        assert {*map(id, entries.parts)} == {*map(id, before.parts)}


def test_places_of_rules_are_part_of_what_is_equal() -> None:
    part = next(
        part
        for program in read().programs.values()
        if isinstance(program.entries, Entries)
        for part in program.entries.parts
        if any(entry.origin.endswith("]") for entry in part.entries)
    )
    moved = tuple(e._replace(origin=e.origin.replace("[", "[9")) for e in part.entries)
    fresh = next(
        same
        for program in read().programs.values()
        if isinstance(program.entries, Entries)
        for same in program.entries.parts
        if same.node == part.node and same.entries == part.entries
    )
    assert fresh.entries != moved
    assert fresh.entries == tuple(part.entries)


def test_an_index_of_another_bundle_is_refused() -> None:
    wrong = {name: places[:-1] for name, places in read_index(INDEX).items()}
    with pytest.raises(InputError, match="another bundle's"):
        load(DATA, "journal", wrong)


def test_a_journal_reads_its_bundles_by_what_it_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Journal("net", sqlite_store("net")).lead() as lead:
        lead.intend("campus", Deployed(BUNDLE, None, now()))
        lead.finished()
    bundle_read = Journal("net", sqlite_store("net")).deployed()["campus"].bundle
    assert not made(bundle_read)
    assert any(len(p.entries) for p in bundle_read.programs.values())
    (kept,) = (tmp_path / "orchestrator" / "memo").iterdir()
    kept.write_bytes(kept.read_bytes()[:-5])
    again = Journal("net", sqlite_store("net")).deployed()["campus"].bundle
    assert again == bundle_read, "what is damaged is not believed, and nothing is missed"
