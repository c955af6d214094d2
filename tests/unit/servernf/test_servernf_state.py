"""State that moves: an instance that takes another one's over goes on as if nothing had happened, and a
packet finds all that it needs in its slice, and nothing that it does not.

Oracle: the instance that was not moved. Blind spot: what both do wrong; the reference tells that.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import state_traffic as traffic
from state_traffic import INSIDE, OUTSIDE, Place, Traffic

from servernf.python.network_function import NetworkFunction, create, known_types
from servernf.python.packet import PacketView
from servernf.python.scope import EVERYTHING, StateScope
from servernf.python.slices import Incomplete, PacketOutcome, StateSlice, Twin, replay
from servernf.python.state import difference
from servernf.python.tables import RecordFlow
from servernf.wire.state import decode

ELSEWHERE_US = 77_000_000_000_123
"""How much later another host's clock is."""
LAYOUTS = Path(__file__).parents[2] / "golden" / "state" / "layouts.txt"
POOL = ["203.0.113.1", "203.0.113.2"]


@dataclass(frozen=True, slots=True)
class Case:
    """An NF, and who talks through it."""

    nf: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    why: str = ""
    place: Place = field(default_factory=Place)
    kinds: Sequence[Callable[..., traffic.Conversation]] = traffic.KINDS
    by: str = "inside"
    """The field of flows that buckets are told by; "": it has one bucket."""
    is_full: bool = False
    """Its tables are so small that what goes depends on all that there is."""

    def make(self) -> NetworkFunction:
        return create(self.nf, f"g/{self.nf}", self.config)

    def __str__(self) -> str:
        return f"{self.nf} {self.why}".strip()


HTTP = [
    b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET /b?q HTTP/1.1\r\nHost: b.example\r\n\r\nGET /a HTTP/1.1\r\nHost: b.example\r\n\r\n",
    b"POST /up HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"PUT /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /denied HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"\x16\x03\x01 no HTTP",
]
TEXTS = [b"", b"harmless", b"some EVIL text", b"EV", b"IL"]
WEB = {"address": "198.51.100.1", "protocol": "tcp", "port": 80}
DNS = {"address": "198.51.100.1", "protocol": "udp", "port": 53}
BACKENDS = [{"address": f"10.0.9.{n}", "port": 8080} for n in (1, 2, 3)]
EDGE_PLACE = Place(
    hosts=[0xC0000200 + n for n in range(8)],
    servers=[0xC6336401],
    ports=(80, 53),
    begins=OUTSIDE,
)


def dns(rng: random.Random) -> tuple[bytes, bytes]:
    """A query and its answer; now and then another one's."""
    number = rng.randrange(4)
    name = rng.choice((b"\x03www\x07example\0", b"\x03ads\x07example\0", b"\x01a\0"))
    question = name + struct.pack("!HH", 1, 1)
    other = question if rng.random() < 0.9 else b"\x01b\0" + struct.pack("!HH", 1, 1)
    query = struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + question
    return query, struct.pack("!6H", number, 0x8180, 1, 0, 0, 0) + other


def sealed(rng: random.Random, place: Place) -> traffic.Conversation:
    """Plain packets one way; the other way what an end with the same key has sealed, also twice."""
    other = create("aes_encrypt" if place.begins == INSIDE else "aes_decrypt", "g/other", ESP)
    other._association.sender = rng.getrandbits(40)  # type: ignore[attr-defined]
    for _ in range(rng.randrange(1, 9)):
        plain = traffic.Talker(place.begins, 17, rng.choice(place.hosts), 7, place.servers[0], 9)
        _, frame = plain.udp(rng.randbytes(20))
        yield place.begins, frame
        view = loaded(frame)
        assert other.process(view, place.begins, 0)
        out = OUTSIDE if place.begins == INSIDE else INSIDE
        for _ in range(rng.choice((1, 1, 2))):
            yield out, bytes(view.data)


KEY = "00" * 48
ESP = {"spi": 256, "key_environment": "KEY"}
CASES = [
    Case("napt", {"addresses": POOL}),
    Case(
        "napt",
        {
            "addresses": POOL[:1],
            "ports": [2000, 2011],
            "max_mappings_per_address": 3,
            "filtering": "address_and_port_dependent",
        },
        "with few ports",
        is_full=True,
    ),
    Case("stateful_firewall", {"rules": [{"action": "permit"}]}),
    Case(
        "stateful_firewall",
        {"rules": [{"action": "permit"}], "max_connections": 5},
        "full",
        is_full=True,
    ),
    Case("flow_monitor"),
    Case("flow_monitor", {"max_flows": 4}, "full", is_full=True),
    Case("dnat", {"address": "198.51.100.9"}),
    Case(
        "dnat", {"address": "198.51.100.9", "port": 99, "max_connections": 4}, "full", is_full=True
    ),
    Case(
        "dns_guard",
        {"ports": ["53"], "block": ["ads.example"]},
        place=Place(ports=(53,), datagrams=dns),
    ),
    Case(
        "dns_guard",
        {"ports": ["53"], "max_queries": 3},
        "full",
        Place(ports=(53,), datagrams=dns),
        is_full=True,
    ),
    Case("dedup", {"window_ms": 100}),
    Case("dedup", {"window_ms": 60_000, "max_packets": 5}, "full", is_full=True),
    Case(
        "l4_load_balancer",
        {"virtual": [{**WEB, "backends": BACKENDS}, {**DNS, "backends": BACKENDS[:2]}]},
        place=EDGE_PLACE,
        by="outside",
    ),
    Case(
        "policer",
        {
            "rules": [
                {
                    "protocol": "tcp",
                    "rate": 8000,
                    "burst": 200,
                    "peak_rate": 9001,
                    "peak_burst": 300,
                },
                {"protocol": "udp", "rate": 8001, "burst": 200, "excess_burst": 300, "yellow": 3},
                {"protocol": "icmp", "rate": 800, "burst": 100},
            ],
            "reverse": "same",
        },
        by="",
    ),
    Case("traffic_shaper", {"rate": 8000, "burst": 1514, "queue": 3000}, by=""),
    Case(
        "ids",
        {"signatures": [{"id": 1, "content": "EVIL", "protocol": "tcp"}], "action": "drop"},
        place=Place(texts=TEXTS),
    ),
    Case(
        "ids",
        {"signatures": [{"id": 1, "content": "EVIL", "protocol": "tcp", "action": "alert"}]},
        "counting",
        Place(texts=TEXTS),
    ),
    Case(
        "url_filter",
        {"rules": [{"action": "deny", "path": "/denied"}], "ports": ["80"], "reset": True},
        place=Place(texts=HTTP, ports=(80,)),
    ),
    Case(
        "url_filter",
        {"rules": [{"action": "alert", "path": "/denied"}], "ports": ["80"], "malformed": "permit"},
        "counting",
        Place(texts=HTTP, ports=(80,)),
    ),
    Case("cache_observer", {"ports": ["80"]}, place=Place(texts=HTTP, ports=(80,)), by=""),
    Case(
        "cache_observer",
        {"ports": ["80"], "max_objects": 2},
        "full",
        Place(texts=HTTP, ports=(80,)),
        by="",
        is_full=True,
    ),
    Case(
        "router",
        {
            "routes": [{"prefix": "10.0.0.0/8"}, {"prefix": "198.51.100.2/31"}],
            "errors": {"addresses": ["192.0.2.1"]},
        },
        by="",
    ),
    Case("aes_encrypt", ESP, kinds=(sealed,), by=""),
    Case("aes_decrypt", ESP, place=Place(begins=OUTSIDE), kinds=(sealed,), by=""),
]
STATELESS = {
    "acl",
    "dscp_marker",
    "hash_lb",
    "label_filter",
    "mirror",
    "static_nat",
    "ttl_guard",
    "vlan_pop",
    "vlan_push",
    "vxlan_decap",
    "vxlan_encap",
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)


def test_every_nf_is_here() -> None:
    with_state = {case.nf for case in CASES}
    assert with_state | STATELESS == set(known_types())
    assert not with_state & STATELESS


def test_what_is_written_is_as_published(request: pytest.FixtureRequest) -> None:
    """Other runtimes read this; what changes here gets another version."""
    lines: list[str] = []
    for name, case in sorted({case.nf: case for case in CASES}.items()):
        for table, layout in case.make().state.layouts.items():
            lines.append(f"{name} {table} version {layout.version}")
            for role, fields in (("key", layout.key), ("field", layout.fields)):
                lines += [f"  {role} {f.name} {f.type} {f.most or ''}".rstrip() for f in fields]
    if request.config.getoption("--rewrite-golden"):
        LAYOUTS.write_text("\n".join(lines) + "\n")
    assert lines == LAYOUTS.read_text().splitlines(), (
        "if that is meant, another version of the table, and: pytest --rewrite-golden"
    )


def process(
    nf: NetworkFunction, port: str, frame: bytes, now_us: int
) -> tuple[str | None, bytes, int, list[Any]]:
    """What becomes of a frame; emissions with how long they wait."""
    view = PacketView()
    assert view.load(frame)
    view.context = 0
    left = nf.process(view, port, now_us)
    beside = [(e.port, e.frame, max(0, e.at_us - now_us)) for e in nf.emitted]
    nf.emitted.clear()
    return left, bytes(view.data) if left else b"", view.context if left else 0, beside


def leaving(outcome: tuple[str | None, bytes, int, list[Any]]) -> list[tuple[str, bytes]]:
    left, frame, _, beside = outcome
    return ([(left, frame)] if left else []) + [(port, out) for port, out, _ in beside]


def run(nf: NetworkFunction, talk: Traffic, count: int) -> None:
    for port, frame, now_us in talk.frames(count):
        talk.told(leaving(process(nf, port, frame, now_us)))


def moved(
    case: Case, nf: NetworkFunction, scope: StateScope, now_us: int, later_us: int = ELSEWHERE_US
) -> NetworkFunction:
    """A fresh instance, on a host with another clock, with the state of a scope."""
    fresh = case.make()
    batches = [
        decode(raw, lambda _: fresh.state.layouts) for raw in nf.state.export(scope, now_us, 7)
    ]
    fresh.state.enter(batches, now_us + later_us)
    return fresh


def go_on(
    here: NetworkFunction, there: NetworkFunction, talk: Traffic, count: int, scope: StateScope
) -> None:
    """Both treat the same traffic in the same way, and have the same state afterwards."""
    now_us = talk.now_us
    for number, (port, frame, now_us) in enumerate(talk.frames(count)):
        drops = dict(here.drops), dict(there.drops)
        expected = process(here, port, frame, now_us)
        got = process(there, port, frame, now_us + ELSEWHERE_US)
        counted = [
            {reason: n - before.get(reason, 0) for reason, n in nf.drops.items()}
            for before, nf in zip(drops, (here, there), strict=True)
        ]
        assert got == expected, f"packet {number} {frame.hex()} {counted}"
        new = [{k: n for k, n in counts.items() if n} for counts in counted]
        assert new[0] == new[1], f"packet {number}"
        talk.told(leaving(expected))
    kept = here.state.snapshot(scope, now_us)
    assert not difference(kept, there.state.snapshot(scope, now_us + ELSEWHERE_US))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_moved_as_if_never_moved(case: Case) -> None:
    records = 0
    for seed in range(3):
        nf, talk = case.make(), Traffic(seed, case.place, case.kinds)
        run(nf, talk, 150)
        records += nf.state.size()[0]
        there = moved(case, nf, EVERYTHING, talk.now_us)
        assert not difference(
            nf.state.snapshot(EVERYTHING, talk.now_us),
            there.state.snapshot(EVERYTHING, talk.now_us + ELSEWHERE_US),
        )
        assert there.metrics() == nf.metrics()
        assert there.drops == nf.drops
        assert there.state.size() == nf.state.size()
        go_on(nf, there, talk, 100, EVERYTHING)
    assert records


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.by and not c.is_full], ids=str)
def test_a_bucket_moved_as_if_never_moved(case: Case) -> None:
    def bucket_of(flow: RecordFlow) -> int:
        return getattr(flow, case.by)[-1] % 2

    bucket = StateScope(buckets=frozenset((1,)))
    for seed in range(3):
        nf, talk = case.make(), Traffic(seed, case.place, case.kinds)
        nf.state.use_buckets(bucket_of)
        run(nf, talk, 150)
        there = moved(case, nf, bucket, talk.now_us)
        control = moved(case, nf, EVERYTHING, talk.now_us, 0)
        control.state.use_buckets(bucket_of)
        there.state.use_buckets(bucket_of)
        before = nf.state.snapshot(EVERYTHING, talk.now_us)
        gone = nf.state.snapshot(bucket, talk.now_us)
        assert nf.state.delete(bucket) == sum(
            len(records)
            for name, records in gone.items()
            if nf.state.tables[name].kind.flow_of is not None
        )
        after = nf.state.snapshot(EVERYTHING, talk.now_us)
        changed = difference(before, after)
        assert all(body is None for records in changed.values() for body in records.values())
        assert {name: set(records) for name, records in changed.items()} == {
            name: set(records)
            for name, records in gone.items()
            if records and nf.state.tables[name].kind.flow_of is not None
        }
        assert not any(
            records
            for name, records in nf.state.snapshot(bucket, talk.now_us).items()
            if nf.state.tables[name].kind.flow_of is not None
        )
        hosts = [host for host in case.place.hosts if host % 2]
        servers = case.place.servers
        place = Place(
            hosts,
            servers,
            case.place.ports,
            case.place.begins,
            case.place.texts,
            case.place.datagrams,
        )
        more = Traffic(seed + 100, place, case.kinds)
        more.now_us = talk.now_us
        go_on(control, there, more, 100, bucket)


def loaded(frame: bytes) -> PacketView:
    view = PacketView()
    assert view.load(frame)
    return view


def without(told: StateSlice, place: tuple[str, bytes]) -> StateSlice:
    before = {p: body for p, body in told.before.items() if p != place}
    return StateSlice(before, told.after, told.evicted)


def replayed(
    case: Case, told: StateSlice, frame: bytes, port: str, now_us: int
) -> PacketOutcome | None:
    """What becomes of the packet again; None: its slice did not do."""
    try:
        return replay(case.make(), told, loaded(frame), port, now_us + ELSEWHERE_US)
    except Incomplete:
        return None


def shown(outcome: PacketOutcome, now_us: int) -> tuple[object, ...]:
    beside = tuple((e.port, e.frame, max(0, e.at_us - now_us)) for e in outcome.emitted)
    port, frame, context, _, counted, changes, evicted = outcome.shown
    return port, frame, context, beside, counted, changes, evicted


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_packet_is_played_again_from_its_slice(case: Case) -> None:
    rng = random.Random(case.nf)
    nf, control, talk = case.make(), case.make(), Traffic(9, case.place, case.kinds)
    control.state.enter(
        [decode(raw, lambda _: nf.state.layouts) for raw in nf.state.export(EVERYTHING, 0)], 0
    )
    twin, records, evicted = Twin(nf), 0, 0
    for number, (port, frame, now_us) in enumerate(talk.frames(220)):
        expected = process(control, port, frame, now_us)
        outcome = twin.process(loaded(frame), port, now_us)
        emitted = [(e.port, e.frame, max(0, e.at_us - now_us)) for e in nf.emitted]
        nf.emitted.clear()
        assert (outcome.port, outcome.frame if outcome.port else b"", emitted) == (
            expected[0],
            expected[1],
            expected[3],
        ), f"packet {number}: a watched packet is treated otherwise"
        talk.told(leaving(expected))
        told = outcome.slice
        records += sum(body is not None for body in told.before.values())
        evicted += len(told.evicted)
        again = replayed(case, told, frame, port, now_us)
        assert again is not None, f"packet {number}: the slice does not do"
        assert shown(again, now_us + ELSEWHERE_US) == shown(outcome, now_us), f"packet {number}"
        assert again.slice.after == told.after, f"packet {number}"
        for place in rng.sample(list(told.before), min(3, len(told.before))):
            less = replayed(case, without(told, place), frame, port, now_us)
            assert less is None or shown(less, now_us + ELSEWHERE_US) != shown(outcome, now_us), (
                f"packet {number} does not need {place}"
            )
    assert not difference(
        control.state.snapshot(EVERYTHING, talk.now_us), nf.state.snapshot(EVERYTHING, talk.now_us)
    )
    assert records > 10
    assert control.drops == nf.drops
    assert evicted or not case.is_full or case.nf == "napt"
