"""Routes in columns: what objects would say, and what outlasts a process without being believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.durable import Durable
from orchestrator.errors import InputError
from orchestrator.model.match import Prefix
from orchestrator.model.routes import Route, Routes
from orchestrator.nfs.files import Files, Readings
from orchestrator.nfs.router import RouterConfig

ROUTES = (
    Route(Prefix(4, 10 << 24, 8), "outside", (4, 1), "r.txt:3"),
    Route(Prefix(6, 0x2001_0DB8 << 96, 32), "uplink", (6, (1 << 127) + 5), "routes[12]"),
    Route(Prefix(4, 0, 0), "outside", None, "by hand"),
    Route(Prefix(4, 11 << 24, 8), "outside", (4, 1), "007"),
)
TEXT = "10.0.0.0/8 192.0.2.1\n# none\n2001:db8::/32 2001:db8::1 uplink\n0.0.0.0/0 -\n"


def config(folder: Path, durable: Durable | None = None) -> RouterConfig:
    files = Files(folder, Readings(durable))
    return RouterConfig(routes_file="routes.txt").with_files(files)


def test_columns_say_what_objects_say() -> None:
    routes = Routes.of(ROUTES)
    assert tuple(routes) == ROUTES
    assert [routes[1], routes[-1]] == [ROUTES[1], ROUTES[-1]]
    assert tuple(routes[::2]) == ROUTES[::2]
    assert routes.outputs == ("outside", "uplink")
    assert routes.next_hops == {(4, 1), (6, (1 << 127) + 5)}
    assert routes.counts == {4: 3, 6: 1}
    assert routes.kinds == {("outside", 4), ("uplink", 6)}
    assert not Routes()


def test_equal_routes_are_told_by_their_digest() -> None:
    routes = Routes.of(ROUTES)
    assert routes == Routes.of(list(ROUTES)) == Routes.from_bytes(routes.to_bytes())
    assert routes[:3] == Routes.of(ROUTES[:3]), "of routes that are gone nothing is left"
    assert routes != Routes.of(reversed(ROUTES))
    assert Routes.of(ROUTES[:1]) != Routes.of(
        [Route(Prefix(4, 10 << 24, 8), "b", (4, 1), "r.txt:3")]
    )


def test_a_prefix_that_is_there_twice_is_found() -> None:
    again = Route(ROUTES[0].prefix, "uplink", None, "r.txt:9")
    assert list(Routes.of((*ROUTES, again)).doubles()) == [(again, ROUTES[0])]
    assert not list(Routes.of(ROUTES).doubles())


def test_another_document_is_refused() -> None:
    whole = Routes.of(ROUTES).to_bytes()
    for other in (b"", b"[]\n", whole[:-1], whole[whole.index(b"\n") + 1 :]):
        with pytest.raises((ValueError, LookupError, TypeError)):
            Routes.from_bytes(other)


def test_a_file_that_was_read_before_is_not_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "routes.txt").write_text(TEXT)
    durable = Durable(tmp_path / "memo")
    first = config(tmp_path, durable)
    with monkeypatch.context() as context:
        context.setattr("orchestrator.nfs.router.parse_lines", lambda *_: pytest.fail("parsed"))
        assert config(tmp_path, durable).all_routes == first.all_routes
    (tmp_path / "routes.txt").write_text(TEXT.replace("10.0.0.0", "11.0.0.0"))
    assert config(tmp_path, durable).all_routes[0].prefix == Prefix(4, 11 << 24, 8)
    (tmp_path / "routes.txt").write_text(TEXT * 2)
    with pytest.raises(InputError, match=r"routes\.txt:5: 10\.0\.0\.0/8 is also in routes\.txt:1"):
        config(tmp_path, durable)
    with pytest.raises(InputError, match=r"routes\.txt:5: 10\.0\.0\.0/8 is also in routes\.txt:1"):
        config(tmp_path, durable)


def test_what_is_damaged_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "routes.txt").write_text(TEXT)
    durable = Durable(tmp_path / "memo")
    first = config(tmp_path, durable)
    (kept,) = (tmp_path / "memo").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"x" + whole[41:], b"other" + whole):
        kept.write_bytes(damaged)
        assert config(tmp_path, durable).all_routes == first.all_routes
        assert kept.read_bytes() == whole, "it was made anew"


def test_of_too_much_the_longest_unasked_goes(tmp_path: Path) -> None:
    durable = Durable(tmp_path / "memo", most_bytes=4000)
    for second, name in enumerate("abcd"):
        durable.put(bytes(900), name)
        for file in (tmp_path / "memo").iterdir():
            if file.stat().st_mtime > 9:
                os.utime(file, (second, second))
    assert durable.get("a") == bytes(900)
    durable.put(bytes(900), "e")
    assert durable.get("a") is not None
    assert durable.get("b") is None
    durable.put(bytes(1001), "f")
    assert durable.get("f") is None, "one alone may not have more than a quarter"


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "memo").write_text("a file")
    durable = Durable(tmp_path / "memo")
    durable.put(b"answer", "question")
    assert durable.get("question") is None


def test_another_version_of_the_code_asks_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = Durable(tmp_path / "memo")
    durable.put(b"answer", "question")
    monkeypatch.setattr("orchestrator.durable.code_digest", lambda: b"another")
    assert durable.get("question") is None
