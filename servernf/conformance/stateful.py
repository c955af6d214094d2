"""Vectors of NFs that remember: connections, flows, queries, packets."""

from __future__ import annotations

import hmac
import struct
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from servernf.conformance.frames import (
    ACK,
    ESP,
    FIN,
    PSH,
    SYN,
    arp,
    dns,
    echo,
    ether,
    ip,
    tcp,
    udp,
)
from servernf.conformance.vectors import INSIDE, OUTSIDE, Exchange, Vector, dropped, passes

A, B, C = "10.0.0.1", "198.51.100.9", "203.0.113.5"
CLIENT, SERVER = (A, 4000), (B, 80)
GET = b"GET /%s HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


def _up(flags: int, seq: int, ack: int = 0, data: bytes = b"") -> bytes:
    """A segment from the client to the server."""
    return tcp(*CLIENT, *SERVER, flags, seq, ack, data)


def _down(flags: int, seq: int, ack: int = 0, data: bytes = b"") -> bytes:
    """A segment from the server to the client."""
    return tcp(*SERVER, *CLIENT, flags, seq, ack, data)


def _handshake() -> tuple[Exchange, ...]:
    """A connection that inside opens; the client's next byte is 101, the server's 501."""
    return (
        passes(INSIDE, _up(SYN, 100)),
        passes(OUTSIDE, _down(SYN | ACK, 500, 101)),
        passes(INSIDE, _up(ACK, 101, 501)),
    )


GOOD, BAD = GET % b"index", GET % b"secret"
KEY = bytes(range(48))
"""AES-128 (16 bytes), then HMAC-SHA-256 (32)."""
ESP_SPI = 4096
PLAIN = udp(A, 7, B, 9, b"protected data")


def _esp(frame: bytes, sequence: int, *, key: bytes = KEY) -> bytes:
    """A frame's IP payload in ESP (RFC 4303, transport mode; RFC 3602; RFC 4868)."""
    payload, next_header = frame[34:], frame[23]
    pad = bytes(range(1, 1 + (-len(payload) - 2) % 16))
    clear = payload + pad + bytes([len(pad), next_header])
    iv = bytes(range(16))
    cipher = Cipher(algorithms.AES(key[:16]), modes.CBC(iv)).encryptor()
    sealed = struct.pack("!II", ESP_SPI, sequence) + iv + cipher.update(clear) + cipher.finalize()
    sealed += hmac.new(key[16:], sealed, sha256).digest()[:16]
    return ether(ip(A, B, ESP, sealed))


def _encrypted(frame: bytes) -> str:
    """What is wrong with `PLAIN` once encrypted: IV and sequence number are the worker's own."""
    if frame[:14] != PLAIN[:14] or frame[23] != ESP or frame[26:34] != PLAIN[26:34]:
        return "not ESP between the same hosts"
    sealed, told = frame[34:-16], frame[-16:]
    spi, sequence = struct.unpack("!II", sealed[:8])
    if spi != ESP_SPI or not sequence:
        return f"SPI {spi}, sequence number {sequence}"
    if not hmac.compare_digest(hmac.new(KEY[16:], sealed, sha256).digest()[:16], told):
        return "not authentic"
    cipher = Cipher(algorithms.AES(KEY[:16]), modes.CBC(sealed[8:24])).decryptor()
    clear = cipher.update(sealed[24:]) + cipher.finalize()
    return "" if clear.startswith(PLAIN[34:]) and clear[-1] == 17 else "another payload"


def _aes(nf: str, plain: str, sealed: str) -> Vector:
    return Vector(
        nf,
        "ESP one way, authentic and not replayed the other",
        {"key_file": "{folder}/key", "spi": ESP_SPI},
        (
            passes(plain, PLAIN, _encrypted),
            passes(sealed, _esp(PLAIN, 1), PLAIN),
            dropped(sealed, _esp(PLAIN, 1)),
            dropped(sealed, _esp(PLAIN, 2, key=bytes(48))),
            dropped(sealed, PLAIN),
            passes(plain, arp()),
        ),
        files={"key": KEY.hex()},
    )


QUERY = udp(A, 5000, B, 53, dns(7, "www.example.com"))
ANSWER = udp(B, 53, A, 5000, dns(7, "www.example.com", answer=True))
EVIL = [{"id": 1, "content": "EVIL", "protocol": "udp"}]
PERMIT_DNS = [{"protocol": "udp", "dst_port": 53, "action": "permit"}]

VECTORS = (
    Vector(
        "napt",
        "a mapping both ways, of the pool's one port",
        {"addresses": [C], "ports": [2000, 2000]},
        (
            dropped(OUTSIDE, udp(B, 9, C, 2000)),
            passes(INSIDE, udp(A, 7, B, 9), udp(C, 2000, B, 9)),
            passes(OUTSIDE, udp(B, 9, C, 2000), udp(B, 9, A, 7)),
            dropped(INSIDE, udp("10.0.0.2", 7, B, 9)),
            dropped(OUTSIDE, udp(B, 9, C, 2001)),
            passes(INSIDE, echo(A, B, 77), echo(C, B, 2000)),
            passes(OUTSIDE, echo(B, C, 2000, reply=True), echo(B, A, 77, reply=True)),
            dropped(INSIDE, arp()),
        ),
    ),
    Vector(
        "dnat",
        "the asked address comes back",
        {"address": C, "port": 5353},
        (
            passes(OUTSIDE, udp(C, 5353, A, 7)),
            passes(INSIDE, udp(A, 7, B, 53), udp(A, 7, C, 5353)),
            passes(OUTSIDE, udp(C, 5353, A, 7), udp(B, 53, A, 7)),
            passes(OUTSIDE, udp(C, 5353, A, 8)),
        ),
    ),
    Vector(
        "l4_load_balancer",
        "to the one backend and back",
        {
            "virtual": [
                {
                    "address": C,
                    "protocol": "tcp",
                    "port": 80,
                    "backends": [{"address": A, "port": 8080}],
                }
            ]
        },
        (
            passes(INSIDE, tcp(A, 8080, B, 7, ACK, 1, 1)),
            passes(OUTSIDE, tcp(B, 7, C, 80, SYN, 1), tcp(B, 7, A, 8080, SYN, 1)),
            passes(
                INSIDE,
                tcp(A, 8080, B, 7, SYN | ACK, 9, 2),
                tcp(C, 80, B, 7, SYN | ACK, 9, 2),
            ),
            passes(OUTSIDE, tcp(B, 7, C, 81, SYN, 1)),
        ),
    ),
    Vector(
        "stateful_firewall",
        "inside opens, outside answers",
        {"rules": PERMIT_DNS, "default": "deny"},
        (
            dropped(OUTSIDE, udp(B, 53, A, 4000)),
            passes(INSIDE, udp(A, 4000, B, 53)),
            passes(OUTSIDE, udp(B, 53, A, 4000)),
            dropped(INSIDE, udp(A, 4000, B, 54)),
            dropped(INSIDE, arp()),
        ),
    ),
    Vector(
        "stateful_firewall",
        "a TCP connection is opened by SYN alone",
        {"default": "permit"},
        (dropped(INSIDE, _up(ACK, 101, 501)), dropped(OUTSIDE, _down(SYN, 7)), *_handshake()),
    ),
    Vector(
        "ids",
        "a signature over segments drops and blocks",
        {
            "signatures": [
                {"id": 1, "content": "EVIL", "protocol": "tcp", "ports": ["80"]},
                {"id": 2, "content": "EVIL", "protocol": "udp"},
            ],
            "action": "drop",
        },
        (
            *_handshake(),
            passes(INSIDE, _up(ACK | PSH, 101, 501, b"all EV")),
            dropped(INSIDE, _up(ACK | PSH, 107, 501, b"IL")),
            dropped(INSIDE, _up(ACK | PSH, 109, 501, b"more")),
            passes(INSIDE, udp(A, 1, B, 2, b"good")),
            dropped(INSIDE, udp(A, 1, B, 2, b"an EVIL one")),
        ),
    ),
    Vector(
        "flow_monitor",
        "one flow, both its directions counted",
        {},
        (passes(INSIDE, QUERY), passes(OUTSIDE, ANSWER)),
        metrics={"flows": 1, "bytes": len(QUERY) + len(ANSWER)},
    ),
    Vector(
        "policer",
        "a full bucket's bytes, then nothing",
        {"rules": [{"dst_port": 53, "protocol": "udp", "rate": 8, "burst": 2 * len(QUERY)}]},
        (
            passes(INSIDE, QUERY),
            passes(INSIDE, QUERY),
            dropped(INSIDE, QUERY),
            passes(INSIDE, udp(A, 1, B, 80)),
            passes(OUTSIDE, ANSWER),
        ),
    ),
    Vector(
        "dedup",
        "an equal packet within the window, but for TTL",
        {"window_ms": 60_000},
        (
            passes(INSIDE, udp(A, 1, B, 2, number=5)),
            dropped(INSIDE, udp(A, 1, B, 2, number=5, ttl=9)),
            passes(INSIDE, udp(A, 1, B, 2, number=6)),
            passes(OUTSIDE, udp(A, 1, B, 2, number=5)),
        ),
    ),
    Vector(
        "dns_guard",
        "answers are asked for once, blocked names are not asked for",
        {"block": ["ads.example"], "ports": ["53"]},
        (
            dropped(OUTSIDE, ANSWER),
            passes(INSIDE, QUERY),
            passes(OUTSIDE, ANSWER),
            dropped(OUTSIDE, ANSWER),
            dropped(INSIDE, udp(A, 5000, B, 53, dns(8, "x.ADS.example"))),
            dropped(INSIDE, udp(A, 5000, B, 53, b"no DNS")),
            passes(INSIDE, udp(A, 5000, B, 54, b"no DNS")),
        ),
    ),
    Vector(
        "url_filter",
        "a denied request is dropped and blocks its connection",
        {
            "rules": [{"path": "/secret*", "action": "deny"}],
            "default": "permit",
            "ports": ["80"],
        },
        (
            *_handshake(),
            passes(INSIDE, _up(ACK | PSH, 101, 501, GOOD)),
            passes(OUTSIDE, _down(ACK, 501, 101 + len(GOOD))),
            dropped(INSIDE, _up(ACK | PSH, 101 + len(GOOD), 501, BAD)),
            dropped(INSIDE, _up(ACK | FIN, 101 + len(GOOD) + len(BAD), 501)),
        ),
    ),
    Vector(
        "cache_observer",
        "a miss, then a hit",
        {"ports": ["80"]},
        (
            *_handshake(),
            passes(INSIDE, _up(ACK | PSH, 101, 501, GOOD), label_out=22),
            passes(INSIDE, _up(ACK | PSH, 101 + len(GOOD), 501, GOOD), label_out=21),
            passes(INSIDE, udp(A, 1, B, 80), label=5, label_out=5),
        ),
    ),
    Vector(
        "traffic_shaper",
        "what the bucket has no bytes for yet waits, in each direction",
        {"rate": 1_000_000, "burst": 1514, "queue": 1514},
        (
            passes(INSIDE, udp(A, 1, B, 2, bytes(1400))),
            passes(INSIDE, udp(A, 1, B, 2, bytes(1401))),
            passes(OUTSIDE, udp(B, 2, A, 1, bytes(1400))),
        ),
    ),
    _aes("aes_encrypt", INSIDE, OUTSIDE),
    _aes("aes_decrypt", OUTSIDE, INSIDE),
)
