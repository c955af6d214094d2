"""What a worker's shim tells a witness, and that neither NFs nor packets' way know what is watched."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType

import pytest
from nf_specs import spec
from servernf_support import udp

from orchestrator.errors import InputError
from servernf.python import network_function
from servernf.python.network_function import NetworkFunction, create
from servernf.python.packet import PacketView
from servernf.python.runtime import shim as shim_module
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.worker import NfSpec, Worker
from servernf.python.slices import replay
from servernf.wire import nsh, prf, records, sampling, slices
from servernf.wire.configs import config_digest
from servernf.wire.fields import Fields, parsed
from servernf.wire.records import CUT, STATE_CUT, Record, RecordKind, frame_digest, point_id
from servernf.wire.witness import Epoch, Witness

MAC, NEXT = 0x0200_0001_0001, 0x0200_0002_0000
ALL = 1 << 32
EVERYTHING = Witness((Epoch(1, 11, 12, ALL),))
NAPT = spec("g/nat", "napt", {"addresses": ["203.0.113.1"]})
IDS = spec("g/ids", "ids", {"signatures": [{"id": 1, "content": "EVIL", "protocol": "udp"}]})
FRAME = udp("10.0.0.7", 4000, "198.51.100.9", 53)
EVIL = udp("10.0.0.7", 4000, "198.51.100.9", 53, b"is EVIL!")
OUT = ExitHop(NEXT, 6, 253)


class Clock:
    def __init__(self) -> None:
        self.us = 1_000_000

    def __call__(self) -> int:
        return self.us


class Told:
    """A worker whose records are kept."""

    def __init__(self, *chain: NfSpec, witness: Witness | None = EVERYTHING) -> None:
        self.clock = Clock()
        self.taken: list[bytes] = []
        self.room = True
        self.worker = Worker(
            "w1", MAC, self.clock, wall_clock=lambda: 1234, ticks=lambda: self.clock.us * 1000
        )
        self.worker.shim.record_to(self.take)
        self.worker.witness("g", witness)
        self.worker.configure("g", chain)
        hops = [NfHop(nf.name, "inside") for nf in chain[1:]]
        self.worker.service_chain(chain[0].name, ChainScope(5, 254, "inside"), [*hops, OUT])

    def take(self, record: bytes) -> bool:
        if self.room:
            self.taken.append(record)
        return self.room

    def records(self) -> list[Record]:
        """Those of packets since this was asked last."""
        self.worker.shim.settle()
        unpacked = [records.unpack(data) for data in self.taken]
        self.taken.clear()
        return [record for record in unpacked if record.kind is not RecordKind.EVENT]


def packet(frame: bytes, label: int = 7, ingress_us: int = 9, si: int = 254) -> bytes:
    return nsh.encode(nsh.Tag(MAC, 1, 5, si, label=label, ingress_us=ingress_us), frame)


def seen(told: Sequence[Record]) -> list[tuple[str, str, str, str, str]]:
    return [(r.kind.name, r.nf, r.port_in, r.port_out, r.reason) for r in told]


def test_what_goes_in_and_out_of_every_nf() -> None:
    told = Told(IDS, NAPT)
    (sent,) = told.worker.process([packet(FRAME)])
    told.worker.process([packet(EVIL, label=8)])
    taken = told.records()
    assert seen(taken) == [
        ("IN", "g/ids", "inside", "", ""),
        ("OUT", "g/ids", "inside", "outside", ""),
        ("IN", "g/nat", "inside", "", ""),
        ("OUT", "g/nat", "inside", "outside", ""),
        ("IN", "g/ids", "inside", "", ""),
        ("DROP", "g/ids", "inside", "", "signature"),
    ]
    assert [r.frame for r in taken[:4]] == [FRAME, FRAME, FRAME, sent[38:]]
    assert all(r.whole_digest == frame_digest(r.frame) for r in taken)
    assert {(r.point, r.path, r.epoch, r.nf_us) for r in taken} == {
        (point_id("w1"), 5 << 8 | 254, 1, 1_000_000)
    }
    assert [r.packet for r in taken] == [(7, 9)] * 4 + [(8, 9)] * 2
    assert taken[3].configuration.hex() == config_digest(NAPT.config_json)
    assert [r.sequence for r in taken] == list(range(taken[0].sequence, taken[0].sequence + 6))


def test_only_what_the_prf_says() -> None:
    epoch = Epoch(3, 5, 6, 1 << 31)
    told = Told(NAPT, witness=Witness((epoch,)))
    told.worker.process([packet(FRAME, 7, ingress_us) for ingress_us in range(200)])
    expected = {at for at in range(200) if prf.witnessed(5, 6, 7, at, 1 << 31)}
    assert {r.ingress_us for r in told.records()} == expected
    assert 70 < len(expected) < 130


def test_epochs_overlap_without_a_gap() -> None:
    old, new = Epoch(1, 5, 6, 1 << 30), Epoch(2, 7, 8, 1 << 30)
    told = Told(NAPT, witness=Witness((old,)))
    for at, epochs in enumerate([(old,), (old, new), (new,)]):
        told.worker.witness("g", Witness(epochs))
        told.worker.process([packet(FRAME, at, ingress_us) for ingress_us in range(100)])
    packets = {r.packet for r in told.records()}

    def due(epoch: Epoch, *labels: int) -> set[tuple[int, int]]:
        return {
            (label, at)
            for label in labels
            for at in range(100)
            if prf.witnessed(epoch.key0, epoch.key1, label, at, epoch.threshold)
        }

    assert packets == due(old, 0, 1) | due(new, 1, 2)


def test_headers_only_with_the_digest_of_all() -> None:
    told = Told(NAPT, witness=Witness(EVERYTHING.epochs, headers=20))
    told.worker.process([packet(FRAME)])
    first = told.records()[0]
    assert (first.frame, first.flags, first.frame_bytes) == (FRAME[:20], CUT, len(FRAME))
    assert first.digest == first.whole_digest == frame_digest(FRAME)


def test_drops_of_the_worker_itself() -> None:
    told = Told(NAPT)
    frames = [packet(FRAME, si=9), packet(b"short"), packet(FRAME)[:30]]
    assert told.worker.process(frames) == []
    assert [(r.kind, r.reason) for r in told.records()] == [
        (RecordKind.LOST, "unknown_path"),
        (RecordKind.LOST, "malformed"),
    ]


def test_copies_and_what_is_held() -> None:
    told = Told(spec("g/m", "mirror", {"rules": [{}]}))
    told.worker.process([packet(FRAME)])
    assert [(r.kind.name, r.branch, r.port_out, r.reason) for r in told.records()] == [
        ("IN", 0, "", ""),
        ("OUT", 0, "outside", ""),
        ("OUT", 1, "mirror", ""),
        ("LOST", 1, "", "no_next_hop"),
    ]
    shaper = {"rate": 1_000_000, "burst": 1514, "queue": 10_000}
    told = Told(spec("g/s", "traffic_shaper", shaper))
    told.worker.process([packet(FRAME, at) for at in range(40)])
    held = [r.label for r in told.records() if r.kind is RecordKind.HELD]
    assert held
    told.clock.us += 10_000_000
    told.worker.process([])
    let_go = [r for r in told.records() if r.kind is RecordKind.OUT]
    assert [(r.label, r.frame) for r in let_go] == [(label, FRAME) for label in held]


def test_what_found_no_room_leaves_a_gap_and_is_counted() -> None:
    told = Told(NAPT)
    told.worker.process([packet(FRAME)])
    before = told.records()[-1].sequence
    told.room = False
    told.worker.process([packet(FRAME)])
    assert told.records() == []
    assert told.worker.metrics()["records.lost"] == 2
    told.room = True
    told.worker.process([packet(FRAME)])
    assert told.records()[0].sequence == before + 3


def test_starts_epochs_configurations_and_paths_are_told() -> None:
    told = Told(NAPT)
    told.worker.witness("g", None)
    told.worker.remove_graph("g")
    said = [records.unpack(data).event() for data in told.taken]
    digest = config_digest(NAPT.config_json)
    assert said == [
        {"event": "boot", "point": "w1"},
        {"event": "witness", "graph": "g", "epochs": [1]},
        {"event": "configured", "graph": "g", "nfs": {"g/nat": digest}, "removed": []},
        {"event": "paths", "graph": "g", "taken": ["5/254"]},
        {"event": "witness", "graph": "g", "epochs": []},
    ]


def test_an_update_is_told_by_its_paths_behind_what_came_by_the_old_ones() -> None:
    told = Told(NAPT)
    told.taken.clear()
    told.worker.process([packet(FRAME)])
    told.worker.service_chain("g/nat", ChainScope(9, 254, "inside"), [OUT])
    told.worker.service_chain("g/nat", ChainScope(5, 254, "inside"), [], update=True)
    unpacked = [records.unpack(data) for data in told.taken]
    assert [r.kind for r in unpacked] == [
        RecordKind.IN,
        RecordKind.OUT,
        RecordKind.EVENT,
        RecordKind.EVENT,
    ]
    assert [r.event() for r in unpacked[2:]] == [
        {"event": "paths", "graph": "g", "taken": ["9/254"]},
        {"event": "paths", "graph": "g", "gone": ["5/254"]},
    ]
    # Who begins to watch is told what there is.
    told.worker.witness("g", None)
    told.taken.clear()
    told.worker.witness("g", EVERYTHING)
    said = [records.unpack(data).event() for data in told.taken]
    assert said[1:] == [{"event": "paths", "graph": "g", "taken": ["9/254"]}]


@pytest.mark.parametrize(
    ("witness", "says"),
    [
        (Witness(()), "0; 1 to 8"),
        (Witness((Epoch(2, 1, 1, 1), Epoch(1, 1, 1, 1))), "order"),
        (Witness((Epoch(1, 1, 1, ALL + 1),)), "threshold"),
        (Witness((Epoch(0, 1, 1, 1),)), "number"),
        (Witness((Epoch(1, 1, 1, 1),), headers=-1), "headers"),
    ],
)
def test_a_wrong_witness_changes_nothing(witness: Witness, says: str) -> None:
    told = Told(NAPT)
    with pytest.raises(InputError, match=says):
        told.worker.witness("g", witness)
    assert told.worker.shim.witnesses == {"g": EVERYTHING}


# An NF that looks at who calls it, and a sender that measures.


class Peeping(NetworkFunction):
    """Passes everything, and keeps what it sees of its callers; fails for a byte."""

    def setup(self, config: Fields) -> None:
        self.views: list[object] = []

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        view: list[object] = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != __file__:
            local = {name: type(value).__name__ for name, value in frame.f_locals.items()}
            view.append((frame.f_code.co_name, frame.f_lineno, local))
            frame = frame.f_back
        self.views.append(view)
        if packet.data[-1] == 0xEE:
            raise RuntimeError("as asked")
        return "outside"


@pytest.fixture
def peeping(monkeypatch: pytest.MonkeyPatch) -> Told:
    network_function.known_types()
    monkeypatch.setitem(network_function._registry, "peeping", Peeping)
    return Told(spec("g/p", "peeping", {}), witness=Witness((Epoch(1, 5, 6, 1 << 31),)))


def test_an_nf_that_looks_at_its_caller_finds_nothing(peeping: Told) -> None:
    for at in range(200):
        peeping.worker.process([packet(FRAME, at)])
    nf = peeping.worker.tables.instances["g/p"].nf
    assert isinstance(nf, Peeping)
    assert len(nf.views) == 200
    assert all(view == nf.views[1] for view in nf.views[1:])
    watched = {r.label for r in peeping.records()}
    assert 60 < len(watched) < 140


def test_nothing_is_decided_on_the_packets_way(
    peeping: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a batch is sent all its packets are asked alike; what takes longer for a watched one is done
    at a step of the clock, whoever sends when."""
    work: list[str] = []

    asks = sampling.places

    def places(*arguments: int) -> Callable[[bytes], Sequence[int]]:
        answer = asks(*arguments)

        def decide(contexts: bytes) -> Sequence[int]:
            work.append("decision")
            return answer(contexts)

        return decide

    def pack(*arguments: object) -> bytes:
        work.append("record")
        return records.packed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sampling, "places", places)
    monkeypatch.setattr(shim_module, "packed", pack)
    peeping.worker.witness("g", Witness((Epoch(2, 5, 6, 1 << 31),)))
    shim = peeping.worker.shim
    shim.settle_if_due()
    for at in range(90):
        peeping.worker.process([packet(FRAME, at)])
        assert len(work) == at
        peeping.clock.us += 10
        shim.settle_if_due()
        assert work == ["decision"] * (at + 1)
        assert 0 < (shim.due_us() or 0) <= 5_000  # watched or not
    peeping.clock.us += 5_000
    shim.settle_if_due()
    assert work.count("decision") == 90
    assert work.count("record") > 50
    assert shim.due_us() is None


def test_an_nf_that_fails(peeping: Told) -> None:
    peeping.worker.witness("g", EVERYTHING)
    peeping.worker.process([packet(FRAME[:-1] + b"\xee")])
    assert [(r.kind, r.nf, r.reason) for r in peeping.records()] == [
        (RecordKind.IN, "g/p", ""),
        (RecordKind.ERROR, "g/p", "failed: RuntimeError"),
    ]


def test_keys_are_in_no_text() -> None:
    told = Told(NAPT, witness=Witness((Epoch(1, 0xABCDEF01, 0x12345678, 0x7654321),)))
    text = repr(told.worker.shim.witnesses) + repr(told.worker.tables) + str(told.taken)
    assert not any(str(secret) in text for secret in (0xABCDEF01, 0x12345678, 0x7654321))


def test_a_clock_that_says_nothing_yet_is_a_clock() -> None:
    """Virtual time begins at 0."""
    told = Told(NAPT)
    told.clock.us = 0
    told.worker.process([packet(FRAME)])
    kinds = [r.kind for r in told.records()]
    assert kinds[:2] == [RecordKind.IN, RecordKind.OUT]


# State in records.

STATEFUL = Witness(EVERYTHING.epochs, state=True)
FIREWALL = spec("g/fw", "stateful_firewall", {"default": "permit"})


@pytest.mark.parametrize("nf", [NAPT, FIREWALL])
def test_a_record_has_the_state_by_which_its_packet_is_played_again(nf: NfSpec) -> None:
    told = Told(nf, witness=STATEFUL)
    frames = [udp(f"10.0.0.{at % 5}", 4000 + at % 3, "198.51.100.9", 53) for at in range(40)]
    told.worker.process([packet(frame, at) for at, frame in enumerate(frames)])
    taken = told.records()
    assert len(taken) == 80
    for came, left in zip(taken[::2], taken[1::2], strict=True):
        assert (came.kind, came.state, left.kind) == (RecordKind.IN, b"", RecordKind.OUT)
        fresh = create(nf.type_name, nf.name, parsed(nf.config_json, "config"))
        view = PacketView()
        view.context = came.context_in
        assert view.load(came.frame)
        told_slice = slices.unpack(left.state)
        again = replay(fresh, told_slice, view, came.port_in, left.nf_us)
        assert (again.port, again.frame) == (left.port_out, left.frame)
        assert again.slice.changes == told_slice.changes
    sizes = {len(record.state) for record in taken[1::2]}
    assert min(sizes) > 20
    assert max(sizes) < 1000


def test_all_packets_go_one_way_where_records_have_state(peeping: Told) -> None:
    peeping.worker.witness("g", Witness((Epoch(1, 5, 6, 1 << 31),), state=True))
    for at in range(100):
        peeping.worker.process([packet(FRAME, at)])
    nf = peeping.worker.tables.instances["g/p"].nf
    assert isinstance(nf, Peeping)
    assert len(nf.views) == 100
    assert all(view == nf.views[1] for view in nf.views[1:])
    peeping.worker.process([packet(FRAME[:-1] + b"\xee")])
    peeping.worker.witness("g", EVERYTHING)
    peeping.worker.process([packet(FRAME)])
    assert peeping.records()[-1].state == b""


def test_state_that_is_too_large_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MOST_SLICE", 10)
    told = Told(NAPT, witness=STATEFUL)
    told.worker.process([packet(FRAME)])
    came, left = told.records()
    assert (came.flags, left.flags, left.state) == (0, STATE_CUT, b"")


def test_what_is_no_slice() -> None:
    whole = slices.pack(
        slices.StateSlice(
            {("a", b"k"): b"1", ("b", b"k"): b"2", ("c", b"k"): None, ("d", b"k"): b"3"},
            {("a", b"k"): b"1", ("b", b"k"): None, ("c", b"k"): b"4", ("d", b"k"): b"5"},
            ((("c", b"k"), b"old"),),
        )
    )
    assert slices.pack(slices.unpack(whole)) == whole
    for end in range(len(whole)):
        with pytest.raises(InputError, match="cut short"):
            slices.unpack(whole[:end])
    for data, says in (
        (b"\2" + whole[1:], "encoding 2"),
        (whole + b"\0", "1 bytes behind"),
        (whole.replace(b"\1a\0\1k\7", b"\1a\0\1k\5"), "contradict"),
        (whole.replace(b"\1b\0", b"\1a\0"), "twice"),
        (whole.replace(b"\1b\0", b"\1\n\0"), "printable"),
    ):
        with pytest.raises(InputError, match=says):
            slices.unpack(data)


def test_flows_are_watched_whole_and_whatever_their_packets() -> None:
    epoch = Epoch(1, 5, 6, 0, flows=1 << 30)
    told = Told(NAPT, witness=Witness((epoch,)))
    chance = random.Random(1)
    for flow in range(200):
        tags = [
            nsh.Tag(MAC, 1, 5, 254, 63, 9, flow, chance.getrandbits(32), 0, chance.getrandbits(32))
            for _ in range(3)
        ]
        told.worker.process([nsh.encode(tag, FRAME) for tag in tags])
    flows = Counter(r.flow for r in told.records() if r.kind is RecordKind.IN)
    assert set(flows) == {f for f in range(200) if prf.flow_witnessed(5, 6, f, 1 << 30)}
    assert 30 < len(flows) < 70
    assert set(flows.values()) == {3}
    assert [epoch.watches(1, 2, flow) for flow in sorted(flows)] == [True] * len(flows)


def test_what_the_socket_drops_is_told_once() -> None:
    told = Told(NAPT)
    drops = {"receive_queue_full": 3}
    told.worker.shim.surroundings.socket_drops = lambda: drops
    for now in ({"receive_queue_full": 3}, {"receive_queue_full": 5}):
        drops = now
        for _ in range(2):
            told.clock.us += 2_000_000
            told.worker.process([packet(FRAME)])
            told.worker.shim.settle_if_due()
    events = [records.unpack(data) for data in told.taken]
    said = [r.event() for r in events if r.kind is RecordKind.EVENT]
    assert [s["frames"] for s in said if s["event"] == "socket drops"] == [
        {"receive_queue_full": 3},
        {"receive_queue_full": 5},
    ]


def test_a_link_that_failed_and_came_back_is_told() -> None:
    told = Told(NAPT)
    changes: int | None = 7
    told.worker.shim.surroundings.link_changes = lambda: changes
    for now in (7, 7, 9, None, 9, 10):
        changes = now
        told.clock.us += 2_000_000
        told.worker.process([packet(FRAME)])
        told.worker.shim.settle_if_due()
    said = [records.unpack(data) for data in told.taken]
    events = [r.event() for r in said if r.kind is RecordKind.EVENT]
    assert [e["carrier_changes"] for e in events if e["event"] == "link"] == [2, 1]
