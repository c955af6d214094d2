"""cache_observer and label_filter: hits and misses, the label on its way; reference and runtime."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from nf_bench import Bench, Both, ether
from nf_specs import spec
from pydantic import ValidationError
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from orchestrator.model.packet import Packet
from orchestrator.nfs.base import lookup
from servernf.python.network_function import create
from servernf.python.packet import PacketView
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh

HIT, MISS = 21, 22
DENY_MISS: dict[str, Any] = {"rules": [{"label": MISS, "action": "deny"}]}
MAC = 0x0200_0001_0001


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()


def segment(data: bytes, seq: int = 1, client: int = 1000, flags: str = "A") -> Any:
    tcp = TCP(sport=client, dport=80, seq=seq, flags=flags)
    return ether(IP(src="10.0.1.11", dst="198.51.100.13") / tcp / Raw(data))


class Labels:
    """What the reference labels."""

    def __init__(self, **config: Any) -> None:
        self.bench = Bench("cache_observer", config)

    def of(self, frame: Any, port: str = "inside") -> int | None:
        """None: it is dropped."""
        left = self.bench.reference.process(Packet.parse(bytes(frame)), port, self.bench.env)
        if not left:
            return None
        ((_, packet),) = left
        assert packet.to_bytes() == bytes(frame), "it only observes"
        return packet.context


def test_the_first_get_misses_the_next_hits_whoever_asks() -> None:
    labels = Labels(fresh_s=10)
    assert labels.of(segment(get("/a"))) == MISS
    assert labels.of(segment(get("/a"), client=1001)) == HIT
    assert labels.of(segment(get("/a?x=1"), client=1002)) == MISS
    assert labels.of(segment(get("/b/../a"), client=1003)) == HIT
    labels.bench.wait(10)
    assert labels.of(segment(get("/a"), client=1004)) == MISS, "it is stale"


def test_packets_carry_the_label_of_the_last_request_that_is_complete() -> None:
    labels = Labels()
    first, second = get("/a"), get("/a")
    assert labels.of(segment(b"", 0, flags="S")) == 0
    assert labels.of(segment(first[:9], 1)) == 0
    assert labels.of(segment(first[9:] + second[:5], 10)) == MISS
    assert labels.of(segment(b"", 15 + len(first))) == MISS
    assert labels.of(segment(second[5:], 6 + len(first))) == HIT
    answer = IP(src="198.51.100.13", dst="10.0.1.11") / TCP(sport=80, dport=1000, flags="A")
    assert labels.of(ether(answer), "outside") == 0
    assert labels.of(segment(get("/a", "HEAD"), 1 + 2 * len(first))) == 0
    assert labels.of(segment(b"no http\n\n", 9, client=7)) == 0
    assert labels.of(ether(IP() / UDP())) == 0


def test_what_is_used_stays() -> None:
    labels = Labels(max_objects=2, labels={"hit": 1, "miss": 2})
    seen = [labels.of(segment(get(f"/{p}"), client=n)) for n, p in enumerate("abacba", 1)]
    assert seen == [2, 2, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("nf_type", "config"),
    [
        ("cache_observer", {"labels": {"hit": 0}}),
        ("cache_observer", {"labels": {"stale": 3}}),
        ("cache_observer", {"fresh_s": 0}),
        ("label_filter", {}),
        ("label_filter", {"rules": []}),
        ("label_filter", {"rules": [{"label": -1, "action": "deny"}]}),
        ("label_filter", {"rules": [{"label": 2, "action": "alert"}]}),
        ("label_filter", {"rules": [{"label": 2, "action": a} for a in ("permit", "deny")]}),
    ],
)
def test_bad_configs(nf_type: str, config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lookup(nf_type).Config.model_validate(config)


@pytest.mark.slow
def test_the_runtime_does_the_same() -> None:
    config = {"max_objects": 4, "fresh_s": 1, "ports": ["80", "1001"]}
    labels = Labels(**config)
    nf = create("cache_observer", "g/nf", labels.bench.function.runtime_config())
    rng, seen = random.Random(3), dict.fromkeys((0, HIT, MISS), 0)
    for _ in range(400):
        talk = labels.bench.function.talk(6, rng)
        assert talk is not None
        data, client, seq = talk.data, rng.randrange(1000, 1006), rng.getrandbits(31)
        pieces = [segment(b"", seq, client, "S")]
        while data:
            size = rng.choice((10, 60, 500))
            pieces.append(segment(data[:size], seq + 1 + len(talk.data) - len(data), client))
            data = data[size:]
        if rng.random() < 0.2:
            rng.shuffle(pieces)
        for frame in pieces:
            labels.bench.env.now_us += 20_000
            wanted = labels.of(frame)
            view = PacketView()
            assert view.load(bytes(frame))
            left = nf.process(view, "inside", labels.bench.env.now_us)
            assert left == (None if wanted is None else "outside")
            if wanted is not None:
                assert (bytes(view.data), view.context) == (bytes(frame), wanted)
                seen[wanted] += 1
    assert min(seen.values()) > 50


@pytest.mark.parametrize("default", ["permit", "deny"])
def test_label_filter_reference_and_runtime(default: str) -> None:
    rules = [{"label": 0, "action": "permit"}, {"label": 7, "action": "deny"}]
    both = Both("label_filter", rules=rules, default=default)
    frame = bytes(segment(b""))
    for label, permitted in ((0, True), (7, False), (8, default == "permit")):
        packet, view = Packet.parse(frame), PacketView()
        packet.context, view.context = label, label
        assert view.load(frame)
        outputs = both.bench.reference.process(packet, "outside", both.bench.env)
        assert [port for port, _ in outputs] == ["inside"] * permitted
        assert both.runtime.process(view, "outside", 0) == ("inside" if permitted else None)


def chained(worker: Worker, names: Sequence[str]) -> None:
    """NFs of the worker one behind the other, then out."""
    hops = [NfHop(f"g/{name}", "inside") for name in names[1:]]
    exit_ = ExitHop(0x0200_0009_0000, 5, 253)
    worker.service_chain(f"g/{names[0]}", ChainScope(5, 254, "inside"), [*hops, exit_])


def tagged(frame: Any, mac: int = MAC, label: int = 0) -> bytes:
    tag = nsh.Tag(mac, 1, 5, 254, traffic_class=3, label=9, nf_labels=label, ingress_us=4)
    return nsh.encode(tag, bytes(frame))


def test_the_label_travels_in_the_tag_from_worker_to_worker() -> None:
    observer, filtering = Worker("a", MAC, lambda: 0), Worker("b", MAC, lambda: 0)
    cache = lookup("cache_observer").Config.model_validate({}).model_dump(mode="json")
    observer.configure("g", [spec("g/cache", "cache_observer", cache)])
    filtering.configure("g", [spec("g/filter", "label_filter", DENY_MISS)])
    chained(observer, ["cache"])
    chained(filtering, ["filter"])
    (sent,) = observer.process([tagged(segment(get("/a")))])
    decoded = nsh.decode(sent)
    assert decoded is not None
    tag = decoded[0]
    words = (tag.traffic_class, tag.label, tag.nf_labels, tag.ingress_us)
    assert words == (3, 9, MISS, 4)
    (again,) = observer.process([tagged(segment(get("/a"), client=5))])
    for frame, passes in ((sent, False), (again, True)):
        turned = nsh.decode(frame)
        assert turned is not None
        got = filtering.process([tagged(turned[1], label=turned[0].nf_labels)])
        assert bool(got) == passes
    assert filtering.metrics("g/filter")["g/filter.drop.label"] == 1


def test_the_label_stays_with_what_is_held() -> None:
    now = [0]
    worker = Worker("a", MAC, lambda: now[0])
    cache = lookup("cache_observer").Config.model_validate({}).model_dump(mode="json")
    shaper = {"rate": 1_000_000, "burst": 1514, "queue": 9000}
    specs = [
        spec("g/cache", "cache_observer", cache),
        spec("g/shaper", "traffic_shaper", shaper),
        spec("g/filter", "label_filter", {"rules": [{"label": HIT, "action": "deny"}]}),
    ]
    worker.configure("g", specs)
    chained(worker, ["cache", "shaper", "filter"])
    body = b"x" * 1300
    frames = [segment(get(path) + body, client=n) for n, path in enumerate(("/a", "/a", "/b"), 1)]
    assert len(worker.process([tagged(f) for f in frames])) == 1
    now[0] = 10**9
    (left,) = worker.process(())
    decoded = nsh.decode(left)
    assert decoded is not None
    assert (decoded[0].nf_labels, decoded[1]) == (MISS, bytes(frames[2]))
