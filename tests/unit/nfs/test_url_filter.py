"""url_filter: how it reads requests, what it blocks; and that the workers' runtime does the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nf_bench import Bench, Both, ether
from pydantic import ValidationError
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from orchestrator.nfs.base import lookup
from orchestrator.nfs.http_reference import HttpReader, HttpRequest, MalformedRequest
from orchestrator.nfs.url_filter import UrlFilter, UrlFilterConfig
from servernf.python.http1 import NotHttp, Request, RequestStream

RULES: list[dict[str, Any]] = [
    {"host": "intranet.example", "path": "/public/*", "action": "permit"},
    {"host": "*.ads.example", "action": "deny"},
    {"host": "Intranet.Example.", "action": "deny"},
    {"path": "*.exe", "action": "deny"},
    {"path": "/watched", "action": "alert"},
]


def request(host: str, path: str = "/", extra: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode()


CHUNKED = request("a", extra="Transfer-Encoding: chunked\r\n")


def segment(seq: int, data: bytes = b"", flags: str = "A", port: int = 80) -> Any:
    tcp = TCP(sport=1000, dport=port, seq=seq, ack=77, flags=flags)
    packet = IP(src="10.0.1.11", dst="198.51.100.13") / tcp
    return packet / Raw(data) if data else packet


def answer(flags: str = "A", ack: int = 1, isn: int = 76) -> Any:
    tcp = TCP(sport=80, dport=1000, seq=isn + ("S" not in flags), ack=ack, flags=flags)
    data = b"" if "S" in flags else b"HTTP/1.1 200 OK\r\n\r\n"
    return IP(src="198.51.100.13", dst="10.0.1.11") / tcp / Raw(data)


def passes(data: bytes, **config: Any) -> bool:
    bench = Bench("url_filter", {"rules": RULES, **config})
    bench.send("inside", segment(0, flags="S"))
    return bench.passes("inside", segment(1, data))


@pytest.mark.parametrize(
    ("host", "path", "permitted"),
    [
        ("www.example", "/", True),
        ("intranet.example", "/public/a", True),
        ("INTRANET.example:8080", "/", False),
        ("intranet.example.", "/", False),
        ("a.b.ads.example", "/x", False),
        ("ads.example", "/x", True),
        ("bads.example", "/", True),
        ("www.example", "/setup.exe", False),
        ("www.example", "/setup%2Eexe?x=1", False),
        ("www.example", "/setup.exe/more", True),
        ("intranet.example", "/public/../secret", False),
        ("www.example", "http://intranet.example/", False),
        ("intranet.example", "http://user:pw@www.example:80?q", True),
        ("intranet.example", "*", False),
        ("www.example", "/watched", True),
    ],
)
def test_rules(host: str, path: str, permitted: bool) -> None:
    assert passes(request(host, path)) == permitted


def test_a_denied_request_blocks_its_connection_both_ways_until_a_new_one() -> None:
    bench = Bench("url_filter", {"rules": RULES})
    bench.send("inside", segment(0, flags="S"))
    bench.send("outside", answer("SA"))
    data = request("x.ads.example")
    assert bench.passes("inside", segment(1, data[:20]))
    assert bench.passes("inside", segment(1 + 30, data[30:])), "waits behind a hole"
    assert not bench.passes("inside", segment(1 + 20, data[20:30]))
    assert not bench.passes("inside", segment(1 + 20, data[20:30]))
    assert not bench.passes("outside", answer())
    assert bench.passes("inside", segment(90_500, flags="S"))
    assert not bench.passes("inside", segment(90_501, request("www.example")))
    assert bench.passes("outside", answer("SA", 90_501, isn=9999)), "only its answer begins anew"
    fresh = segment(90_501, request("www.example"))
    fresh[TCP].ack = 10_000
    assert bench.passes("inside", fresh)


def test_pipelined_requests_and_bodies() -> None:
    post = b"POST /form HTTP/1.1\r\nHost: www.example\r\n"
    bad = request("x.ads.example")
    for body in (
        b"Content-Length: 5\r\n\r\nGET /",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n",
    ):
        assert passes(post + body + request("www.example"))
        assert not passes(post + body + bad)
    inner = post + b"Content-Length: %d\r\n\r\n" % len(bad) + bad
    assert passes(inner), "what looks like a request is a body"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\n",
        request("a", extra="Host: b\r\n"),
        request("a", extra="X : y\r\n"),
        request("a", extra=" folded\r\n"),
        request("a", extra="Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        request("a", extra="Content-Length: 3\r\nContent-Length: 4\r\n"),
        request("a", extra="Content-Length: +3\r\n"),
        request("a", extra="Transfer-Encoding: chunked, gzip\r\n"),
        request("a", extra="X: y\rHost: b\r\n"),
        request("a", extra=f"X: {'y' * 8192}\r\n"),
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",  # LF alone
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        request("a", extra="Content-Length: 3\r\nContent-Length: 3\r\n"),
        request("a", extra="Content-Length: 3, 3\r\n"),
        request("a", extra="Transfer-Encoding: chunked, chunked\r\n"),
        request("a", extra="Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        request("a", extra="Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        request("a", extra="Transfer-Encoding: xchunked\r\n"),
        request("a", extra="Transfer-Encoding: , chunked\r\n"),
        request("a", extra="X: a\0b\r\n"),
        request("a", extra="X\0: b\r\n"),
        request("a@b"),
        request("a, b"),
        request("a/b"),
        request("%61"),
        request("a", "/x#y"),
        request("a", "/x%00.html"),
        request("a", "/x%0d%0ay"),
        request("a", "/100%"),
        request("a", "/%u0061"),
        CHUNKED + b"2\nab\r\n0\r\n\r\n",
        CHUNKED + b"2;\nab\r\n0\r\n\r\n",
        CHUNKED + b"2;a\rb\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nab\n0\r\n\r\n",
        CHUNKED + b"2 \r\nab\r\n0\r\n\r\n",
        CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"+2\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nno field\r\n\r\n",
        CHUNKED + b"0\r\nX: y\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET relative HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_malformed(data: bytes) -> None:
    assert not passes(data)
    bench = Bench("url_filter", {"rules": RULES, "malformed": "permit"})
    assert bench.passes("inside", segment(1, data))
    later = segment(1 + len(data), request("x.ads.example"))
    assert bench.passes("inside", later), "it is looked at no more"


PATHS = {
    "/admin": False,
    "/admin/x": False,
    "//admin/x": False,
    "///admin/x": False,
    "/a//../admin/x": False,
    "/a/..\\admin/x": False,
    "\\admin": False,
    "/a\\..\\admin": False,
    "/%2fadmin": False,
    "/a%2f..%2fadmin": False,
    "/a/%2e%2e/admin": False,
    "/a/..%5cadmin": False,
    "/%61dmin": False,
    "/%2561dmin": False,
    "/a/%252e%252e/admin": False,
    "/admin;x=1/y": False,
    "/a;x/..;y/admin": False,
    "/admin/x%2f../../y": False,  # of a server that takes %2f for no separator
    "/./admin/.": False,
    "/public/a;b//c%20d%2525": True,
    "/adm": True,
    "/b?x=//admin": True,
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_judged_as_any_server_may_read_it(path: str) -> None:
    both = Both("url_filter", rules=[{"path": "/admin*", "action": "deny"}])
    tcp = TCP(sport=1000, dport=80, seq=1, ack=77, flags="A")
    target = path if path.startswith("/") else "http://a.example" + path
    frame = ether(IP(src="10.0.1.11", dst="198.51.100.13") / tcp / Raw(request("a", target)))
    assert bool(both.send("inside", frame)) == PATHS[path]


def test_every_reading_must_be_permitted() -> None:
    rules = [{"path": "/public/*", "action": "permit"}]
    both = Both("url_filter", rules=rules, default="deny")
    for number, (path, passes) in enumerate(
        {"/public/a//b": True, "/public//../a": False, "/public/..;/a": False}.items()
    ):
        tcp = TCP(sport=1000 + number, dport=80, seq=1, ack=77, flags="A")
        frame = ether(IP(src="10.0.1.11", dst="10.0.1.12") / tcp / Raw(request("a", path)))
        assert bool(both.send("inside", frame)) == passes, path


def test_other_ports_and_protocols_pass() -> None:
    bench = Bench("url_filter", {"rules": RULES, "ports": ["80", "8000-8080"]})
    denied = request("x.ads.example")
    assert bench.passes("inside", segment(1, denied, port=443))
    assert not bench.passes("inside", segment(1, denied, port=8033))


@pytest.mark.parametrize("version", [4, 6])
def test_a_reset_tells_both_ends(version: int) -> None:
    both = Both("url_filter", rules=RULES, reset=True)
    addresses = ("10.0.1.11", "198.51.100.13") if version == 4 else ("2001:db8::1", "2001:db8::2")
    ip = (IP if version == 4 else IPv6)(src=addresses[0], dst=addresses[1])
    data = request("x.ads.example")
    for at, flags, piece in ((0, "S", b""), (1, "A", data[:20]), (30, "A", data[29:])):
        tcp = TCP(sport=1000, dport=80, seq=at, ack=77, flags=flags)
        both.one("inside", ether(ip / tcp / Raw(piece)))
    tcp = TCP(sport=1000, dport=80, seq=15, ack=77, flags="PA")
    frame = Ether(src="0a:00:00:00:00:01", dst="06:00:00:00:00:01") / Dot1Q(vlan=7) / ip / tcp
    (onward, there), (back, here) = both.send("inside", bytes(frame / Raw(data[14:29])))
    assert (onward, back) == ("outside", "inside")
    there_, here_ = Ether(there), Ether(here)
    for reset in (there_, here_):
        assert (reset[Dot1Q].vlan, reset[TCP].flags, reset.payload.payload.src in addresses) == (
            7,
            "RA",
            True,
        )
        again = reset.copy()
        del again[TCP].chksum
        assert Ether(bytes(again))[TCP].chksum == reset[TCP].chksum
    assert (there_.src, there_[TCP].dport, there_[TCP].seq) == ("0a:00:00:00:00:01", 80, 21)
    assert (here_.dst, here_[TCP].dport, here_[TCP].seq) == ("0a:00:00:00:00:01", 1000, 77)
    assert here_[TCP].ack == 15 + 15
    assert set(
        UrlFilter("f", UrlFilterConfig.model_validate({"rules": RULES, "reset": True}))
        .elements("inside")
        .edges
    ) >= {("inspect", "inside"), ("inspect", "outside")}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "permits everything"),
        ({"rules": [{"host": "a b", "action": "deny"}]}, "is not a host"),
        ({"rules": [{"host": "*", "action": "deny"}]}, "is not a host"),
        ({"rules": [{"path": "/a*b", "action": "deny"}]}, "is not a path"),
        ({"rules": [{"path": "/a?b", "action": "deny"}]}, "is not a path"),
        ({"rules": [{"path": "/a"}]}, "action"),
        ({"default": "deny", "ports": []}, "ports"),
        ({"default": "deny", "ports": ["70000"]}, "65535"),
        ({"default": "deny", "max_header_bytes": 1}, "64"),
    ],
)
def test_bad_configs(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        lookup("url_filter").Config.model_validate(config)


def test_both_readers_read_the_same() -> None:
    config = UrlFilterConfig.model_validate({"rules": RULES, "max_header_bytes": 80})
    function, rng = UrlFilter("f", config), random.Random(9)
    requests = malformed = 0
    for _ in range(3000):
        talk = function.talk(6, rng)
        assert talk is not None
        data = bytearray(talk.data)
        for _ in range(rng.choice((0, 0, 1, 2))):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.choice(
                (b"\r", b"\n", b" ", b"%2f", b":", b"", b"\r\n", b";", b"//", b"%25", b"\\", b"..")
            )
        reader, stream = HttpReader(80), RequestStream(80)
        wanted: list[HttpRequest] = []
        got: list[Request] = []
        ended = [False, False]
        while data and not any(ended):
            size = rng.choice((1, 7, 40, 2000))
            piece = bytes(data[:size])
            del data[:size]
            try:
                wanted.extend(reader.feed(piece))
            except MalformedRequest:
                ended[0] = True
            try:
                stream.add(piece, got)
            except NotHttp:
                ended[1] = True
            assert ended[0] == ended[1], talk.data
        as_told = [(r.method, r.host, r.path, r.query) for r in wanted]
        assert [(r.method, r.host, r.path, r.query) for r in got] == as_told, talk.data
        assert [r.readings() for r in got] == [r.readings for r in wanted], talk.data
        requests, malformed = requests + len(got), malformed + ended[0]
    assert requests > 500
    assert malformed > 500


@pytest.mark.parametrize("malformed", ["permit", "deny"])
@pytest.mark.slow
def test_the_runtime_does_the_same(malformed: str) -> None:
    config = {"rules": RULES, "reset": True, "malformed": malformed, "ports": ["80", "1001"]}
    both = Both("url_filter", **config)
    rng, denied = random.Random(2), 0
    there, back = IP(src="10.0.1.11", dst="198.51.100.13"), IP(src="198.51.100.13", dst="10.0.1.11")
    for client in range(1000, 1300):
        talk = both.bench.function.talk(6, rng)
        assert talk is not None
        data, seq = talk.data, rng.getrandbits(32)
        begin = TCP(sport=client, dport=80, seq=seq, flags="S")
        both.send("inside", ether(there / begin))
        answered = TCP(sport=80, dport=client, seq=8, ack=(seq + 1) % 2**32, flags="SA")
        if rng.random() < 0.95:
            both.send("outside", ether(back / answered))
        pieces: list[tuple[int, str, bytes]] = []
        at = 0
        while at < len(data):
            size = rng.choice((1, 10, 50, 500))
            flags = rng.choice(("A",) * 30 + ("PA", "FA", "SA"))
            pieces.append((at + 1, flags, data[at : at + size]))
            at += size if rng.random() < 0.9 else size // 2 + 1
        if rng.random() < 0.5:
            cut = rng.randrange(len(pieces))
            pieces[cut:] = pieces[cut:][::-1]
        for at, flags, piece in pieces:
            both.now_us += 1000
            tcp = TCP(sport=client, dport=80, seq=(seq + at) % 2**32, ack=9, flags=flags)
            denied += len(both.send("inside", ether(there / tcp / Raw(piece)))) == 2
            if rng.random() < 0.3:
                flags = rng.choice(("A", "FA", "R") if rng.random() < 0.2 else "A")
                tcp = TCP(sport=80, dport=client, seq=9, ack=(seq + 1) % 2**32, flags=flags)
                both.send("outside", ether(back / tcp))
    assert denied > 30
