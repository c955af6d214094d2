"""Tables in which every source has room, beside the reference; keys that nobody can make collide."""

from __future__ import annotations

import random

from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from servernf_support import ether

from orchestrator.nfs import fair_table_reference as reference
from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import connection_key, flow_key, fragment_key, host_of
from servernf.python.match import Headers
from servernf.python.packet import PacketView

MODULUS = (1 << 61) - 1
"""Of CPython's hash of integers."""


def fill(
    table: FairTable[FairEntry], source: bytes, count: int, name: str = "x"
) -> list[FairEntry]:
    entries = [FairEntry() for _ in range(count)]
    for number, entry in enumerate(entries):
        table.add(f"{name}{number}".encode() + source, entry, source)
    return entries


def test_a_flood_takes_the_flooders_entries_only() -> None:
    table = FairTable[FairEntry](100)
    kept = fill(table, b"honest", 30)
    for entry in kept[:10]:
        table.establish(entry)
    fill(table, b"flood", 10_000)
    assert len(table) == 100
    assert all(table.get(entry.key) is entry for entry in kept)
    assert table.evicted == 10_000 + 30 - 100


def test_many_established_ones_give_way_to_who_has_less_only() -> None:
    table = FairTable[FairEntry](10)
    hog = fill(table, b"hog", 10)
    for entry in hog:
        table.establish(entry)
    [new] = fill(table, b"new", 1)
    assert table.get(new.key) is new
    assert table.get(hog[0].key) is None
    table.establish(new)
    [more] = fill(table, b"hog", 1, "more")
    assert table.get(more.key) is None, "it has most already"


def test_it_forgets_as_the_reference_does() -> None:
    rng = random.Random(4)
    for size in (1, 3, 8, 20):
        table, other = FairTable[FairEntry](size), reference.FairTable[bytes, int](size)
        for step in range(3000):
            source = rng.randrange(5)
            key = b"%d/%d" % (source, rng.randrange(1 + 4 * source))
            entry = table.get(key)
            assert (entry is None) == (other.get(key) is None), step
            if entry is None:
                table.add(key, FairEntry(), b"%d" % source)
                other.add(key, step, (4, source))
            elif rng.random() < 0.2:
                table.remove(entry)
                other.remove(key)
            else:
                established = rng.random() < 0.6
                table.refresh(entry)
                other.refresh(key)
                table.establish(entry, established)
                other.establish(key, established)
            assert len(table) == len(other)


def colliding(count: int) -> list[PacketView]:
    """Packets whose sources, as integers, have one hash."""
    first = 0x20010DB8 << 96 | 0x1234
    views: list[PacketView] = []
    for number in range(count):
        source = first + number * MODULUS
        assert hash(source) == hash(first)
        view = PacketView()
        text = ":".join(f"{source >> shift & 0xFFFF:x}" for shift in range(112, -16, -16))
        assert view.load(ether(IPv6(src=text, dst="2001:db8:2::1") / TCP(sport=1, dport=2)))
        views.append(view)
    return views


def test_keys_that_collide_as_integers_do_not() -> None:
    views = colliding(200)
    for keys in (
        [flow_key(view, inside=True) for view in views],
        [flow_key(view, inside=False) for view in views],
        [connection_key(view)[0] for view in views],
        [fragment_key(view, "inside") for view in views],
    ):
        assert len(set(map(hash, keys))) == 200
    hosts = {host_of(flow_key(view, inside=True)[1:]) for view in views}
    assert len(hosts) < 30, "some eight of them lie in each /64"


def test_cached_answers_do_not_collide_either() -> None:
    views = colliding(200)
    assert len({hash(Headers.of(view)) for view in views}) == 200
