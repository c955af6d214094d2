"""dns_guard: well-formed, permitted, asked; and that the workers' runtime does the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nf_bench import Bench, Both, ether
from pydantic import ValidationError
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from orchestrator.nfs.base import lookup
from orchestrator.nfs.dns_guard import MalformedMessage, read_message
from servernf.python.nfs.dns_guard import _Malformed, _parse  # pyright: ignore[reportPrivateUsage]

CLIENT, SERVER = "10.0.1.11", "198.51.100.13"


def query(name: str = "www.example", number: int = 7, **fields: Any) -> Any:
    message = DNS(id=number, rd=1, qd=DNSQR(qname=name), **fields)
    return IP(src=CLIENT, dst=SERVER) / UDP(sport=4000, dport=53) / message


def answer(name: str = "www.example", number: int = 7, src: str = SERVER, **fields: Any) -> Any:
    rest = {"an": DNSRR(rrname=name, rdata="192.0.2.1"), "qd": DNSQR(qname=name), **fields}
    message = DNS(id=number, qr=1, **rest)
    return IP(src=src, dst=CLIENT) / UDP(sport=53, dport=4000) / message


def test_blocked_with_all_below_in_any_case() -> None:
    bench = Bench("dns_guard", {"block": ["Ads.Example.", "test"]})
    for name in ("ads.example", "A.aDS.example", "x.y.ads.example", "test", "a.test"):
        assert not bench.passes("inside", query(name)), name
    for name in ("example", "bads.example", "ads.example.org", "testing", "."):
        assert bench.passes("inside", query(name)), name


def test_only_the_answer_that_was_asked_for_passes_and_only_once() -> None:
    bench = Bench("dns_guard", {})
    assert not bench.passes("outside", answer())
    bench.send("inside", query())
    assert not bench.passes("outside", answer(number=8))
    assert not bench.passes("outside", answer(name="www.other"))
    assert not bench.passes("outside", answer(src="198.51.100.14"))
    assert not bench.passes("outside", answer(qd=[], an=[]))
    assert bench.passes("outside", answer(name="WWW.example"))
    assert not bench.passes("outside", answer())
    bench.send("inside", query())
    assert bench.passes("outside", answer(qd=[], an=[], rcode=1)), "the server could not read it"
    bench.send("inside", query())
    bench.wait(10)
    assert not bench.passes("outside", answer())
    assert Bench("dns_guard", {"answers": "any"}).passes("outside", answer())


def test_queries_are_bounded() -> None:
    bench = Bench("dns_guard", {"max_queries": 2})
    for number in (1, 2, 1, 3):
        bench.send("inside", query(number=number))
    assert bench.passes("outside", answer(number=1))
    assert not bench.passes("outside", answer(number=2))


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 11,
        b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",  # a pointer to itself
        b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\xc0\x0e\0\1\0\1",  # a pointer forward
        b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\xc0\x0c\0\1\0\1",  # a pointer into its own name
        b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\xc0\0\0\1\0\1",  # a pointer into the header
        b"\0\7\1\0\0\1\0\0\0\0\0\0\x41" + b"a" * 65 + b"\0\0\1\0\1",
        b"\0\7\1\0\0\1\0\0\0\0\0\0" + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        b"\0\7\1\0\0\1\0\0\0\0\0\0\1a",
        b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1!",
        b"\0\7\1\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1\0\0\x29\0\0\0\0\0\0\0\4ab",
        b"\0\7\1\0\0\2\0\0\0\0\0\0\1a\0\0\1\0\1\1b\0\0\1\0\1",
        b"\0\7\1\0\0\0\0\0\0\0\0\0",
        b"\0\7\x29\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1",  # an update
    ],
)
def test_malformed_queries_are_dropped(data: bytes) -> None:
    bench = Bench("dns_guard", {})
    assert not bench.passes(
        "inside", IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=53) / Raw(data)
    )
    assert bench.passes("inside", IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=54) / Raw(data))


def test_lengths_fragments_and_the_wrong_direction() -> None:
    bench = Bench("dns_guard", {})
    for length in (7, 19, 60):
        wrong = query()
        wrong[UDP].len = length
        assert not bench.passes("inside", wrong)
    first = query()
    first[IP].flags = "MF"
    assert not bench.passes("inside", first)
    assert bench.passes("inside", IP(src=CLIENT, dst=SERVER, proto=17, frag=3) / Raw(bytes(20)))
    bench.send("inside", query())
    large = answer(an=[DNSRR(rrname="www.example", type=16, rdata=b"x" * 200)] * 3)
    cut = Raw(bytes(large[UDP])[:120])
    cut_packet = IP(src=SERVER, dst=CLIENT, flags="MF", proto=17) / cut
    assert bench.passes("outside", cut_packet), "of a fragmented answer the question is seen"
    asked_back = query()
    asked_back[UDP].sport, asked_back[UDP].dport = 53, 4000
    assert not bench.passes("inside", asked_back), "a query goes to a server"


@pytest.mark.parametrize(
    "config",
    [
        {"block": ["*.ads.example"]},
        {"block": ["a..b"]},
        {"block": [""]},
        {"block": ["a" * 64]},
        {"ports": []},
        {"timeout_s": 0},
        {"answers": "some"},
    ],
)
def test_bad_configs(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lookup("dns_guard").Config.model_validate(config)


def test_both_parsers_agree_on_damaged_messages() -> None:
    rng = random.Random(4)
    names = ["www.example", "a.b.c.example", "."]
    good = [bytes(query(n)[DNS]) for n in names] + [bytes(answer(n)[DNS]) for n in names]
    two = [DNSRR(rrname="a.b", rdata="1.2.3.4")] * 2
    good.append(bytes(DNS(id=1, qr=1, qd=DNSQR(qname="a.b"), an=two).compress()))
    agreed = 0
    for _ in range(8000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.choice(
                (0, 1, 12, 0xC0, 63, 64, rng.randrange(256))
            )
        message = bytes(data[: rng.choice((len(data), rng.randrange(len(data) + 1)))])
        whole = rng.random() < 0.8
        try:
            parsed = read_message(message, complete=whole)
            wanted: list[bytes] | None = list(parsed.question.name) if parsed.question else []
        except MalformedMessage:
            wanted = None
        try:
            got: list[bytes] | None = _parse(message, is_whole=whole)[0]
        except _Malformed:
            got = None
        assert got == wanted, message.hex()
        agreed += got is not None
    assert agreed > 1000


@pytest.mark.parametrize("answers", ["asked", "any"])
@pytest.mark.slow
def test_the_runtime_does_the_same(answers: str) -> None:
    both = Both(
        "dns_guard",
        block=["example", "b.test"],
        answers=answers,
        max_queries=6,
        ports=["53", "5300"],
    )
    rng, passed = random.Random(6), {"inside": 0, "outside": 0}
    answers_due: list[tuple[bytes, Any]] = []
    for _ in range(3000):
        both.now_us += rng.choice((0, 1000, 1000, 4_000_000))
        if answers_due and rng.random() < 0.5:
            side, (data, inner) = "outside", rng.choice(answers_due[-4:])
        else:
            talk = both.bench.function.talk(17, rng)
            assert talk is not None
            version = rng.choice((IP, IPv6))
            src, dst = (CLIENT, SERVER) if version is IP else ("2001:db8::1", "2001:db8::2")
            client = rng.choice((4000, 4001, 53))
            side, data = "inside", talk.data
            inner = version(src=src, dst=dst) / UDP(sport=client, dport=talk.port)
            back = version(src=dst, dst=src) / UDP(sport=talk.port, dport=client)
            answers_due.append((talk.answer, back))
        changed = bytearray(data)
        if rng.random() < 0.1:
            changed[rng.randrange(len(data))] = rng.randrange(256)
        passed[side] += bool(both.send(side, ether(inner / Raw(bytes(changed)))))
    assert min(passed.values()) > 100
