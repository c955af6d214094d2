"""The worker without sockets: dispatch, tags, drops, configuration, chains, shim."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest
from nf_specs import spec
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from servernf_support import tagged, udp

from orchestrator.errors import InputError
from servernf.python.network_function import Emitted, NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.runtime import shim as shim_module
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.errors import ChainExists, NotFound, Unreachable
from servernf.python.runtime.shim import PENDING, Shim
from servernf.python.runtime.tables import SampledLabels
from servernf.python.runtime.worker import NfSpec, Worker
from servernf.wire import nsh, prf

MAC, NEXT = 0x0200_0001_0001, 0x0200_0002_0000
NAPT = spec("g/nat", "napt", {"addresses": ["203.0.113.1"]})
IDS = spec("g/ids", "ids", {"signatures": [{"id": 1, "content": "EVIL", "protocol": "udp"}]})
FRAME = udp("10.0.0.7", 4000, "198.51.100.9", 53)
SCOPE = ChainScope(5, 254, "inside")
HOPS = (NfHop("g/nat", "inside"), ExitHop(NEXT, 6, 253))
ALL = SampledLabels(1, 2, 1 << 32)


class Clock:
    def __init__(self) -> None:
        self.us = 1_000_000

    def __call__(self) -> int:
        return self.us


def worker(manifest: SampledLabels | None = None) -> Worker:
    made = Worker("w1", MAC, Clock(), wall_clock=lambda: 1234)
    made.configure("g", [IDS, NAPT], manifest=manifest)
    made.service_chain("g/ids", SCOPE, HOPS)
    return made


def one(made: Worker, frame: bytes) -> tuple[nsh.Tag, bytes]:
    out = made.process([frame])
    assert len(out) == 1, made.metrics()
    decoded = nsh.decode(out[0])
    assert decoded is not None
    return decoded


def test_tag_in_and_out():
    tag = nsh.Tag(
        MAC, 0x0200_0009_0000, 5, 254, 9, traffic_class=7, flow=8, label=0xDEADBEEF,
        nf_labels=3, ingress_us=4,
    )  # fmt: skip
    got, frame = one(worker(), nsh.encode(tag, FRAME))
    assert got == nsh.Tag(
        NEXT, MAC, 6, 253, 8, traffic_class=7, flow=8, label=0xDEADBEEF, nf_labels=3,
        ingress_us=4,
    )  # fmt: skip
    packet = Ether(frame)
    assert (packet[IP].src, packet[UDP].sport) == ("203.0.113.1", 4000)


def test_any_tree_of_the_fabric():
    made = worker()
    assert made.process([tagged(MAC | 0x07 << 32, FRAME)])
    assert not made.process([tagged(MAC + 1, FRAME)])
    assert made.drops == {"not_mine": 1}


@pytest.mark.parametrize(
    ("reason", "frame"),
    [
        ("bad_tag", b""),
        ("bad_tag", FRAME),
        ("bad_tag", tagged(MAC, FRAME)[:37]),
        ("bad_tag", tagged(MAC, FRAME)[:14] + b"\x4f\xc6" + tagged(MAC, FRAME)[16:]),  # version
        ("bad_tag", tagged(MAC, FRAME)[:14] + b"\x2f\xc6" + tagged(MAC, FRAME)[16:]),  # OAM
        ("bad_tag", tagged(MAC, FRAME)[:14] + b"\x0f\xc7" + tagged(MAC, FRAME)[16:]),  # length
        ("bad_tag", tagged(MAC, FRAME)[:16] + b"\x02\x03" + tagged(MAC, FRAME)[18:]),  # MD type
        ("bad_tag", tagged(MAC, FRAME)[:16] + b"\x01\x01" + tagged(MAC, FRAME)[18:]),  # IPv4
        ("not_mine", tagged(MAC + 0x10000, FRAME)),
        ("nsh_ttl", tagged(MAC, FRAME, ttl=1)),
        ("nsh_ttl", tagged(MAC, FRAME, ttl=0)),
        ("unknown_path", tagged(MAC, FRAME, si=253)),
        ("malformed", tagged(MAC, FRAME[:30])),
        ("malformed", tagged(MAC, b"")),
    ],
)
def test_drop_reasons(reason: str, frame: bytes):
    made = worker()
    assert made.process([frame]) == []
    assert made.drops == {reason: 1}
    assert made.metrics()[f"drop.{reason}"] == 1


def test_unassigned_bits_of_the_tag_are_ignored():
    frame = bytearray(tagged(MAC, FRAME))
    frame[14] |= 0x10
    frame[16] |= 0xF0
    assert worker().process([bytes(frame)])


def test_nf_drop_is_counted_at_the_nf():
    made = worker()
    evil = udp("10.0.0.7", 4000, "198.51.100.9", 53, b"is EVIL!")
    assert made.process([tagged(MAC, evil), tagged(MAC, FRAME)])
    metrics = made.metrics()
    assert metrics["g/ids.packets"] == 2
    assert metrics["g/ids.drop.signature"] == 1
    assert metrics["g/nat.packets"] == 1
    assert (metrics["frames_in"], metrics["frames_out"]) == (2, 1)
    assert "g/ids.packets" not in made.metrics("g/nat")
    with pytest.raises(NotFound, match="known: g/ids, g/nat"):
        made.metrics("g/x")


def test_no_next_hop():
    made = Worker("w1", MAC)
    router = {"routes": [{"prefix": "0.0.0.0/0", "port": "dmz"}, {"prefix": "10.0.0.0/8"}]}
    made.configure("g", [spec("g/r", "router", router)])
    made.service_chain("g/r", SCOPE, [ExitHop(NEXT, 6, 253)])
    assert made.process([tagged(MAC, FRAME)]) == []
    assert made.drops == {"no_next_hop": 1}
    # The branch gets its chain, and each port leads its own way.
    made.service_chain("g/r", ChainScope(5, 254, "", "dmz"), [ExitHop(NEXT + 1, 7, 200)])
    assert one(made, tagged(MAC, FRAME))[0].spi == 7
    inside = udp("1.1.1.1", 1, "10.0.0.1", 2)
    assert one(made, tagged(MAC, inside))[0].spi == 6


def test_an_nf_that_fails_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch):
    made = worker()

    nf = made.tables.instances["g/nat"].nf
    works = nf.process

    def fail(packet: PacketView, port: str, now_us: int) -> str | None:
        if made.drops:
            return works(packet, port, now_us)
        nf.emitted.append(Emitted("outside", bytes(packet.data)))
        raise RuntimeError("boom")

    nf.process = fail  # type: ignore[method-assign]
    made.configure("g", manifest=SampledLabels(1, 2, 0))  # compiles the chains anew
    assert made.process([tagged(MAC, FRAME)]) == []
    assert made.drops == {"nf_error": 1}
    assert made.last_error == "RuntimeError: boom"
    assert len(made.process([tagged(MAC, FRAME)])) == 1, "it leaves nothing to the next packet"


def test_ten_thousand_malformed_frames():
    made = worker(SampledLabels(1, 2, 1 << 31))
    rng = random.Random(7)
    good = tagged(MAC, FRAME)
    before = one(made, good)
    for _ in range(200):
        batch: list[bytes] = []
        for _ in range(50):
            frame = bytearray(good)
            kind = rng.randrange(4)
            if kind == 0:
                frame = bytearray(rng.randbytes(rng.randrange(120)))
            if kind == 1:
                del frame[rng.randrange(len(frame)) :]
            if kind >= 2:  # the tag stays, so that the NFs get to see it
                for _ in range(rng.randrange(1, 12)):
                    frame[rng.randrange(38 if kind == 3 else 0, len(frame))] = rng.randrange(256)
            batch.append(bytes(frame))
        made.process(batch)
    assert "nf_error" not in made.drops, made.last_error
    assert one(made, good) == before


def test_random_packets_of_every_kind_never_fail_an_nf():
    made = Worker("w1", MAC)
    specs: list[NfSpec] = [
        spec("g/acl", "acl", {"rules": [{"dst_port": 5, "action": "deny"}], "default": "permit"}),
        spec("g/sn", "static_nat", {"pairs": [{"inside": "10.0.0.1", "outside": "9.9.9.9"}]}),
        spec("g/r", "router", {"routes": [{"prefix": "0.0.0.0/0"}, {"prefix": "::/0"}]}),
        IDS,
        NAPT,
    ]
    made.configure("g", specs)
    names = [spec.name for spec in specs]
    for index, name in enumerate(names):
        made.service_chain(name, ChainScope(5, 10 + index, "inside"), [ExitHop(NEXT, 6, 1)])
        if name != "g/r":
            made.service_chain(name, ChainScope(5, 20 + index, "outside"), [ExitHop(NEXT, 6, 1)])
    rng = random.Random(3)
    kinds: list[Callable[[], bytes]] = [
        lambda: b"\x08\x00" + bytes([0x45 + rng.randrange(2)]) + rng.randbytes(60),
        lambda: b"\x86\xdd" + b"\x60" + rng.randbytes(80),
        lambda: b"\x81\x00\x00\x05\x08\x00\x45" + rng.randbytes(60),
    ]
    for _ in range(400):
        batch: list[bytes] = []
        for _ in range(10):
            body = bytearray(rng.choice(kinds)())
            if body[0] == 8:
                body[8:10] = b"\0\0"
                body[11] = rng.choice([1, 6, 17])
                if body[11] == 1:
                    body[22] = rng.choice([0, 3, 8, 11])
            frame = rng.randbytes(12) + bytes(body)
            for si in (*range(10, 15), *range(20, 25)):
                batch.append(tagged(MAC, frame, si=si))
        made.process(batch)
    assert "nf_error" not in made.drops, made.last_error
    assert made.frames_out > 5000


# Configuration.


def test_same_configuration_keeps_state():
    made = worker()
    one(made, tagged(MAC, FRAME))
    done = made.configure("g", [NAPT, spec("g/ids", "ids", {"signatures": []})])
    assert (done.unchanged, done.replaced) == (("g/nat",), ("g/ids",))
    assert made.metrics()["g/nat.mappings"] == 1
    assert one(made, tagged(MAC, FRAME))[0].si == 253  # the chain stays


def test_configuration_errors_change_nothing():
    made = worker()
    before = made.tables
    with pytest.raises(InputError) as caught:
        made.configure(
            "g",
            [
                spec("h/x", "acl", {"default": "permit"}),
                spec("g/a", "natt", {}),
                spec("g/b", "napt", {}),
                spec("g/nat", "acl", {"default": "permit"}),
            ],
            remove=["g/nat"],
            manifest=SampledLabels(1, 2, 1 << 33),
        )
    for line in (
        "nfs[0]: 'h/x' must be 'g/NF'",
        "g/a: unknown NF type 'natt'; did you mean 'napt'? (known: acl, ",
        "g/b.addresses: must be a list, not nothing",
        "remove[0]: 'g/nat' is in nfs, too",
        "manifest.threshold: must be 0 to 2^32",
    ):
        assert line in "\n".join(caught.value.problems)
    assert made.tables is before


def test_replacing_an_nf_must_keep_the_ports_in_use():
    made = Worker("w", MAC)
    made.configure("g", [spec("g/r", "router", {"routes": [{"prefix": "::/0", "port": "dmz"}]})])
    made.service_chain("g/r", ChainScope(5, 9, "inside", "dmz"), [ExitHop(NEXT, 6, 1)])
    with pytest.raises(InputError, match="g/r: port 'dmz' is used by a chain and would go"):
        made.configure("g", [spec("g/r", "router", {"routes": []})])


def test_remove_graph_leaves_others_alone():
    made = worker()
    made.configure("h", [spec("h/nat", "napt", {"addresses": ["192.0.2.1"]})])
    made.service_chain("h/nat", ChainScope(9, 9, "inside"), [ExitHop(NEXT, 9, 8)])
    assert made.remove_graph("g") == ("g/ids", "g/nat")
    assert made.remove_graph("g") == ()
    assert list(made.tables.classifiers) == [("h/nat", 9 << 8 | 9, "outside")]
    assert made.process([tagged(MAC, FRAME)]) == []
    assert made.process([tagged(MAC, FRAME, 9, 9)])


def test_remove_an_nf_removes_its_chains():
    made = worker()
    made.configure("g", remove=["g/nat"])
    assert made.process([tagged(MAC, FRAME)]) == []
    assert made.drops == {"no_next_hop": 1}


# Chains.


@pytest.mark.parametrize(
    ("nf", "scope", "hops", "problem"),
    [
        ("g/ids", ChainScope(0, 1, "inside"), HOPS, "scope.spi: must be 1 to 16777215, not 0"),
        ("g/ids", ChainScope(5, 256, "inside"), HOPS, "scope.si: must be 1 to 255, not 256"),
        (
            "g/ids",
            ChainScope(8, 1, "insid"),
            HOPS,
            "scope.in_port: unknown port 'insid'; did you mean",
        ),
        ("g/ids", ChainScope(8, 1), HOPS, "scope.out_port: is required"),
        ("g/ids", ChainScope(8, 1, "inside"), (), "next: must name at least one hop"),
        ("g/ids", ChainScope(8, 1, "inside"), HOPS[:1], "next[0]: the last hop must be an exit"),
        ("g/ids", ChainScope(8, 1, "inside"), HOPS[::-1], "next[0]: an exit must be the last hop"),
        (
            "g/ids",
            ChainScope(8, 1, "inside"),
            (NfHop("g/nut", "inside"), HOPS[1]),
            "next[0].name: unknown NF instance 'g/nut'; did you mean 'g/nat'?",
        ),
        (
            "g/ids",
            ChainScope(8, 1, "inside"),
            (NfHop("g/nat", "dmz"), HOPS[1]),
            "next[0].port: unknown port 'dmz' (known: inside, outside) of g/nat",
        ),
        (
            "g/ids",
            ChainScope(8, 1, "inside"),
            (ExitHop(1 << 48, 0, 300),),
            "next[0].dst_mac: must be a 48-bit MAC",
        ),
        (
            "g/ids",
            ChainScope(8, 1, "inside"),
            (NfHop("g/nat", "inside"), NfHop("g/ids", "inside"), HOPS[1]),
            "next[2]: g/ids is left by outside twice",
        ),
    ],
)
def test_chain_errors_change_nothing(
    nf: str, scope: ChainScope, hops: tuple[NfHop | ExitHop, ...], problem: str
):
    made = worker()
    before = made.tables
    with pytest.raises(InputError) as caught:
        made.service_chain(nf, scope, hops)
    assert problem in str(caught.value)
    assert made.tables is before


def test_unknown_nf_is_not_found():
    with pytest.raises(NotFound, match="unknown NF instance 'g/idx'; did you mean 'g/ids'"):
        worker().service_chain("g/idx", SCOPE, HOPS)


def test_setting_a_chain_again():
    made = worker()
    made.service_chain("g/ids", SCOPE, HOPS)  # the same: no error
    before = made.tables
    with pytest.raises(ChainExists, match="g/nat: SPI 5, SI 254 by port outside leads elsewhere"):
        made.service_chain("g/ids", SCOPE, [HOPS[0], ExitHop(NEXT, 7, 1)])
    with pytest.raises(ChainExists, match="SPI 5, SI 254 enters g/ids by port inside already"):
        made.service_chain("g/nat", SCOPE, [HOPS[1]])
    assert made.tables is before


def test_update_takes_an_nf_out_and_in():
    made = worker()
    made.service_chain("g/ids", SCOPE, [ExitHop(NEXT, 7, 200)], update=True)
    assert list(made.tables.classifiers) == [("g/ids", 5 << 8 | 254, "outside")]
    assert one(made, tagged(MAC, FRAME))[1] == FRAME
    made.service_chain("g/ids", SCOPE, HOPS, update=True)
    assert one(made, tagged(MAC, FRAME))[1] != FRAME
    # From the middle on.
    middle = ChainScope(5, 254, "", "outside")
    made.service_chain("g/nat", middle, [ExitHop(NEXT, 8, 100)], update=True)
    assert one(made, tagged(MAC, FRAME))[0].spi == 8
    with pytest.raises(NotFound, match="g/nat: no chain for SPI 5, SI 9 by port outside"):
        made.service_chain("g/nat", ChainScope(5, 9, "inside"), [HOPS[1]], update=True)


def test_update_with_an_empty_list_removes_the_chain():
    made = worker()
    made.service_chain("g/ids", SCOPE, [], update=True)
    assert not made.tables.entries
    assert not made.tables.classifiers
    assert made.process([tagged(MAC, FRAME)]) == []


def test_a_branch_may_be_updated_before_its_main_chain_is_there():
    made = worker()
    router = {"routes": [{"prefix": "0.0.0.0/0", "port": "dmz"}]}
    made.configure("g", [spec("g/r", "router", router)])
    branch = ChainScope(5, 9, "", "dmz")
    made.service_chain("g/r", branch, [NfHop("g/nat", "inside"), HOPS[1]])
    made.service_chain("g/r", branch, [NfHop("g/ids", "inside"), HOPS[1]], update=True)
    made.service_chain("g/r", ChainScope(5, 9, "inside"), [ExitHop(NEXT, 7, 1)])
    assert one(made, tagged(MAC, FRAME, si=9))[0].spi == 6


def test_update_keeps_branches():
    made = worker()
    router = {"routes": [{"prefix": "198.51.100.0/24", "port": "dmz"}, {"prefix": "0.0.0.0/0"}]}
    made.configure("g", [spec("g/r", "router", router)])
    made.service_chain("g/r", ChainScope(5, 9, "", "dmz"), [NfHop("g/nat", "inside"), HOPS[1]])
    made.service_chain("g/r", ChainScope(5, 9, "inside"), [ExitHop(NEXT, 7, 1)])
    made.service_chain("g/r", ChainScope(5, 9, "inside"), [ExitHop(NEXT, 7, 2)], update=True)
    assert one(made, tagged(MAC, FRAME, si=9))[0].spi == 6
    made.service_chain("g/r", ChainScope(5, 9, "", "dmz"), [ExitHop(NEXT, 8, 2)], update=True)
    assert one(made, tagged(MAC, FRAME, si=9))[0].spi == 8


def pair() -> tuple[Worker, Worker]:
    first, second = Worker("w1", MAC), Worker("w2", MAC + 1)
    peers = {"w1": first, "w2": second}
    first.dial = second.dial = peers.__getitem__
    first.configure("g", [IDS])
    second.configure("g", [NAPT])
    return first, second


def test_chain_across_workers_is_set_by_the_first():
    first, second = pair()
    hops = [NfHop("g/nat", "inside", "w2"), ExitHop(NEXT, 6, 200)]
    chained = first.service_chain("g/ids", SCOPE, hops)
    assert chained.nfs == ("w1:g/ids", "w2:g/nat")
    middle = first.process([tagged(MAC, FRAME)])
    tag, _ = nsh.decode(middle[0]) or pytest.fail("no tag")
    assert (tag.dst_mac, tag.spi, tag.si, tag.ttl) == (MAC + 1, 5, 253, 62)
    assert one(second, middle[0])[0].si == 200
    first.service_chain("g/ids", SCOPE, hops)  # the same again: no error
    # Taking the second worker out removes what it held.
    first.service_chain("g/ids", SCOPE, [ExitHop(NEXT, 6, 200)], update=True)
    assert not second.tables.classifiers
    assert not second.tables.entries
    # And in again.
    first.service_chain("g/ids", SCOPE, hops, update=True)
    assert one(second, first.process([tagged(MAC, FRAME)])[0])[0].si == 200


def test_error_on_a_further_worker_changes_nothing_here():
    first, second = pair()
    hops = [NfHop("g/nat", "inside", "w2"), ExitHop(NEXT, 0, 200)]
    with pytest.raises(InputError, match="spi"):
        first.service_chain("g/ids", SCOPE, hops)
    assert not first.tables.classifiers
    assert not second.tables.classifiers


def test_chain_that_comes_back_to_a_worker():
    first, second = pair()
    first.configure("g", [spec("g/acl", "acl", {"default": "permit"})])
    hops = [
        NfHop("g/nat", "inside", "w2"),
        NfHop("g/acl", "inside", "w1", dst_mac=MAC | 3 << 32, spi=7, si=100),
        ExitHop(NEXT, 6, 50),
    ]
    first.service_chain("g/ids", SCOPE, hops)
    frame = second.process(first.process([tagged(MAC, FRAME)]))[0]
    tag, _ = nsh.decode(frame) or pytest.fail("no tag")
    assert (tag.dst_mac, tag.spi, tag.si) == (MAC | 3 << 32, 7, 100)
    assert one(first, frame)[0].si == 50


def test_without_a_way_to_call_others():
    made = worker()
    with pytest.raises(Unreachable, match="worker unix:/x"):
        made.service_chain(
            "g/ids", ChainScope(8, 9, "inside"), [NfHop("g/y", "inside", "unix:/x"), HOPS[1]]
        )


# The shim.


def test_samples_in_and_out():
    made = worker(SampledLabels(1, 2, 1 << 32))
    evil = udp("10.0.0.7", 4000, "198.51.100.9", 53, b"is EVIL!")
    out = made.process([tagged(MAC, FRAME, label=42), tagged(MAC, evil, label=43)])
    samples, cursor, lost = made.read_samples()
    assert (cursor, lost) == (6, 0)
    assert [(s.nf, s.direction, s.port, s.label, s.reason) for s in samples] == [
        ("g/ids", "in", "inside", 42, ""),
        ("g/ids", "out", "outside", 42, ""),
        ("g/nat", "in", "inside", 42, ""),
        ("g/nat", "out", "outside", 42, ""),
        ("g/ids", "in", "inside", 43, ""),
        ("g/ids", "drop", "", 43, "signature"),
    ]
    assert samples[0].digest == blake2b(FRAME, digest_size=16).digest() == samples[2].digest
    assert samples[3].digest == blake2b(out[0][38:], digest_size=16).digest()
    assert {(s.graph, s.worker, s.spi, s.si) for s in samples} == {("g", "w1", 5, 254)}
    assert 1234 <= samples[0].timestamp_us <= samples[-1].timestamp_us
    assert all((s.spent_ns > 0) is (s.direction != "in") for s in samples)
    assert made.read_samples(cursor) == ([], 6, 0)


def test_only_sampled_labels_are_recorded():
    made = worker(SampledLabels(7, 8, 1 << 31))
    labels = list(range(500))
    made.process([tagged(MAC, FRAME, label=label) for label in labels])
    samples, _, _ = made.read_samples(limit=10_000)
    expected = {label for label in labels if prf.sampled(7, 8, label, 1 << 31)}
    assert {s.label for s in samples} == expected
    assert 150 < len(expected) < 350


def test_ring_is_bounded_and_says_what_was_lost():
    made = worker(ALL)
    made.shim = with_ring(10)
    made.process([tagged(MAC, FRAME)] * 5)  # 20 samples
    samples, cursor, lost = made.read_samples(0, 4)
    assert (len(samples), cursor, lost) == (4, 14, 10)
    samples, cursor, lost = made.read_samples(cursor, 100)
    assert (len(samples), cursor, lost) == (6, 20, 0)


def with_ring(size: int) -> Shim:
    made = Shim("w1", lambda: 0, ring=size)
    made.use({"g": ALL})
    return made


def test_nothing_is_digested_on_the_packets_way(monkeypatch: pytest.MonkeyPatch):
    digested: list[int] = []

    def noted(frame: bytes, digest_size: int) -> object:
        digested.append(len(frame))
        return blake2b(frame, digest_size=digest_size)

    monkeypatch.setattr(shim_module, "blake2b", noted)
    made = worker(ALL)
    for _ in range(2):  # through both NFs of the chain, in a batch of two
        made.process([tagged(MAC, FRAME, label=1), tagged(MAC, FRAME, label=2)])
    assert digested == []
    assert [len(made.read_samples()[0]), len(digested)] == [16, 16]


def test_what_waits_to_be_settled_is_bounded():
    made = worker(ALL)
    for _ in range(3):
        made.process([tagged(MAC, FRAME)] * (PENDING // 2))
    assert made.shim.recorded == 4 * PENDING
    assert len(made.read_samples(0, 10_000)[0]) == 6 * PENDING


def test_a_samples_file_is_bounded_and_says_what_it_lacks(tmp_path: Path):
    made = worker(SampledLabels(1, 2, 1 << 32))
    made.shim.write_to(tmp_path / "samples", 1000)
    assert "samples.unwritten" not in made.metrics()
    made.process([tagged(MAC, FRAME)] * 5)
    made.shim.close()
    written = [json.loads(line) for line in (tmp_path / "samples").read_text().splitlines()]
    assert (tmp_path / "samples").stat().st_size <= 1000
    assert written[0]["digest"] == blake2b(FRAME, digest_size=16).hexdigest()
    assert made.metrics()["samples.unwritten"] == 20 - len(written)


def test_drops_of_the_socket_are_among_the_workers():
    made = worker()
    made.socket_drops = lambda: {"receive_queue_full": 7}
    made.process([b"short"])
    metrics = made.metrics()
    assert (metrics["drop.receive_queue_full"], metrics["drop.bad_tag"]) == (7, 1)


def test_keys_are_in_no_text():
    manifest = SampledLabels(0xABCDEF01, 0x12345678, 1 << 32)
    made = worker(manifest)
    assert str(0xABCDEF01) not in repr(made.tables) + repr(manifest)


def test_an_nf_sees_no_tag_and_cannot_tell_what_is_watched(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[bytes, str, int, tuple[str, ...]]] = []

    def spy(packet: PacketView, port: str, now_us: int) -> str:
        seen.append((bytes(packet.data), port, now_us, PacketView.__slots__))
        return "outside"

    for threshold in (0, 1 << 32):
        made = worker(SampledLabels(1, 2, threshold))
        nf: NetworkFunction = made.tables.instances["g/ids"].nf
        monkeypatch.setattr(nf, "process", spy)
        made.configure("g", manifest=SampledLabels(1, 2, threshold))
        made.process([tagged(MAC, FRAME, label=99)])
    assert seen[0] == seen[1]
    assert seen[0][0] == FRAME


class TestNextConfiguration:
    """What an update makes of a worker: instances of one NF beside each other, then one goes."""

    PATHS = (("g/nat", 5), ("g/nat~2", 6))

    @staticmethod
    def nat(name: str, udp_s: int = 300, **more: object) -> NfSpec:
        config = {"addresses": ["203.0.113.1"], "timeouts_s": {"udp": udp_s}, **more}
        return spec(name, "napt", config)

    def updating(self) -> Worker:
        """Within an update: `nat~2` has come and `nat` still is there."""
        made = Worker("w1", MAC, Clock())
        made.configure("g", [self.nat("g/nat")])
        self.chain(made, "g/nat", 5)
        assert self.port(made, 5, "10.0.0.1") == 4000
        done = made.configure("g", [self.nat("g/nat~2", 30)])
        assert (done.created, done.continued) == (("g/nat~2",), ("g/nat~2",))
        self.chain(made, "g/nat~2", 6)
        return made

    @staticmethod
    def chain(made: Worker, nf: str, spi: int) -> None:
        made.service_chain(nf, ChainScope(spi, 254, "inside"), [ExitHop(NEXT, 7, 253)])

    @staticmethod
    def port(made: Worker, spi: int, inside: str) -> int:
        """The outside port of a datagram of an inside address that comes by a path."""
        frame = tagged(MAC, udp(inside, 4000, "198.51.100.9", 53), spi)
        return Ether(one(made, frame)[1])[UDP].sport

    def test_both_have_one_state_and_one_count(self) -> None:
        made = self.updating()
        assert self.port(made, 6, "10.0.0.2") == 4001, "4000 is taken in the old one"
        assert self.port(made, 5, "10.0.0.2") == 4001
        assert self.port(made, 6, "10.0.0.1") == 4000
        metrics = made.metrics()
        assert metrics["g/nat.packets"] == metrics["g/nat~2.packets"] == 4
        made.configure("g", remove=["g/nat"])
        assert self.port(made, 6, "10.0.0.2") == 4001
        assert made.metrics("g/nat~2")["g/nat~2.packets"] == 5

    def test_undone(self) -> None:
        made = self.updating()
        assert self.port(made, 6, "10.0.0.2") == 4001
        made.configure("g", remove=["g/nat~2"])
        assert self.port(made, 5, "10.0.0.2") == 4001
        assert made.metrics()["g/nat.mappings"] == 2

    def test_undone_when_the_old_one_had_gone(self) -> None:
        made = self.updating()
        made.configure("g", remove=["g/nat"])
        assert made.configure("g", [self.nat("g/nat")]).continued == ("g/nat",)
        self.chain(made, "g/nat", 5)
        assert self.port(made, 5, "10.0.0.2") == 4001

    def test_repeated(self) -> None:
        """Recovery runs a step again: nothing is made anew."""
        made = self.updating()
        done = made.configure("g", [self.nat("g/nat"), self.nat("g/nat~2", 30)])
        assert (done.unchanged, done.continued) == (("g/nat", "g/nat~2"), ())
        assert self.port(made, 6, "10.0.0.1") == 4000

    def test_repeated_on_a_worker_that_has_restarted(self) -> None:
        """Both are made anew and drain beside each other, so they share from the start."""
        made = Worker("w1", MAC, Clock())
        both = [self.nat("g/nat"), self.nat("g/nat~2", 30)]
        assert made.configure("g", both).continued == ("g/nat~2",)
        for nf, spi in self.PATHS:
            self.chain(made, nf, spi)
        assert self.port(made, 5, "10.0.0.1") == 4000
        assert self.port(made, 6, "10.0.0.2") == 4001

    def test_many_in_a_row(self) -> None:
        made = self.updating()
        made.configure("g", remove=["g/nat"])
        running = "g/nat~2"
        for count, name in enumerate(("g/nat", "g/nat~2", "g/nat", "g/nat~2")):
            made.configure("g", [self.nat(name, 31 + count)])
            self.chain(made, name, 10 + count)
            made.configure("g", remove=[running])
            running = name
            assert self.port(made, 10 + count, "10.0.0.1") == 4000
            assert self.port(made, 10 + count, f"10.0.1.{count}") == 4001 + count
        assert set(made.tables.instances) == {"g/nat~2"}
        assert made.metrics()["g/nat~2.packets"] == 9

    def test_replaced_under_its_name(self) -> None:
        made = self.updating()
        done = made.configure("g", [self.nat("g/nat", 40)], remove=["g/nat~2"])
        assert (done.replaced, done.continued) == (("g/nat",), ("g/nat",))
        assert self.port(made, 5, "10.0.0.1") == 4000

    def test_what_it_is_not(self) -> None:
        """Another NF, another graph's, another type, or one whose state says nothing here."""
        made = self.updating()
        dnat = spec("g/dnat", "dnat", {"address": "10.0.0.1"})
        done = made.configure(
            "g", [self.nat("g/nat2"), NfSpec("g/nat~3", "dnat", dnat.config_json), dnat]
        )
        assert done.continued == ()
        assert made.configure("h", [self.nat("h/nat")]).continued == ()
        moved = spec("g/dnat~2", "dnat", {"address": "10.0.0.2"})
        made.tables.instances["g/dnat"].tally.packets = 7
        assert made.configure("g", [moved]).continued == ()
        assert made.metrics()["g/dnat~2.packets"] == 7, "counters go on all the same"

    def test_a_call_that_fails_changes_nothing(self) -> None:
        made = self.updating()
        with pytest.raises(InputError):
            made.configure("g", [self.nat("g/nat~3"), spec("g/x", "napt", {})])
        assert set(made.tables.instances) == {"g/nat", "g/nat~2"}
        assert self.port(made, 5, "10.0.0.1") == 4000
