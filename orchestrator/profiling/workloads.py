"""What each NF is measured with: its configuration, one with many entries, and its packets.

An NF that is not here is planned with what its file says of its costs (`NetworkFunction.cost`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator.profiling.frames import (
    SERVER,
    SIZES,
    OpenedConnections,
    Side,
    address,
    client,
    room,
    udp,
)

Config = Mapping[str, Any]
Make = Callable[[int, int, int], list[bytes]]
"""(how many frames, of which size, the number of the first flow) -> frames."""
MANY = 1000
"""Entries of the larger configuration."""
PUBLIC = "203.0.113.5"
_TO: Side = (SERVER, 53)
_RULE = {"dst_port": 53, "protocol": "udp"}


def datagrams(
    count: int, size: int, first: int, *, to: Side = _TO, back: bool = False
) -> list[bytes]:
    """One of each flow; `back`: from outside."""
    data = bytes(room(size, 8))
    frames: list[bytes] = []
    for number in range(first, first + count):
        ends = (to, client(number)) if back else (client(number), to)
        frames.append(udp(ends[0], ends[1], data, number))
    return frames


def questions(count: int, size: int, first: int) -> list[bytes]:
    """DNS queries (RFC 1035, 4.1), as long as their names."""
    name = b"".join(bytes([len(part)]) + part for part in (b"www", b"example", b"com")) + b"\0"
    return [
        udp(
            client(n),
            _TO,
            n.to_bytes(2) + bytes.fromhex("01000001000000000000") + name + b"\0\1\0\1",
        )
        for n in ((first + k) % 60_000 for k in range(count))
    ]


def arrivals(count: int, size: int, first: int) -> list[bytes]:
    """From outside to the public address."""
    data = bytes(room(size, 8))
    return [
        udp((SERVER + 1, 1024 + n % 60_000), (address(PUBLIC), 80), data)
        for n in range(first, first + count)
    ]


def in_vxlan(count: int, size: int, first: int) -> list[bytes]:
    """Frames in VXLAN (RFC 7348) to the public address."""
    head = bytes.fromhex("0800000000004d00")  # VNI 77
    return [
        udp((SERVER, 50_000 + n % 1000), (address(PUBLIC), 4789), head + inner)
        for n, inner in enumerate(datagrams(count, max(64, size - 50), first))
    ]


@dataclass(frozen=True, slots=True)
class Workload:
    """How one NF is measured. `size_key` of its configuration holds what `many` has more of."""

    config: Config
    frames: Make = datagrams
    port: str = "inside"
    out_port: str = "outside"
    many: Config | None = None
    sizes: Sequence[int] = SIZES
    copies: int = 1
    """Frames that leave for one that comes."""
    connections: Callable[[], OpenedConnections] | None = None
    """Where packets are data of TCP connections; `begins` and `ends` are what each segment has."""
    begins: bytes = b""
    ends: bytes = b""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    of: str = ""
    """Its packets are what this other NF has made of its own."""
    state: bool = False
    """A packet of a flow that it does not know costs more."""


def _rules(more: Config, first: Config | None = None) -> tuple[Config, Config]:
    """A rule that packets meet; and behind a thousand others."""
    others = [
        {"dst": f"192.{n >> 8}.{n & 255}.0/24", "protocol": "udp", "dst_port": n, **(first or more)}
        for n in range(1, MANY)
    ]
    return {"rules": [{**_RULE, **more}]}, {"rules": [*others, {**_RULE, **more}]}


def _of_rules(more: Config, base: Config | None = None, **rest: Any) -> Workload:
    few, many = _rules(more)
    return Workload({**few, **(base or {})}, many={**many, **(base or {})}, **rest)


_PAIRS = [
    {"inside": f"10.0.0.{n}", "outside": f"203.0.{112 + (n >> 8)}.{n & 255}"} for n in range(1, 255)
]
_ROUTES = [{"prefix": "198.51.100.0/24"}, {"prefix": "10.0.0.0/8"}]
_MORE_ROUTES = [{"prefix": f"{20 + (n >> 8)}.{n & 255}.0.0/16"} for n in range(MANY)]
_GATEWAY = {"gateway_mac": "06:00:00:00:00:01"}
_HTTP: dict[str, Any] = {"begins": b"GET / HTTP/1.1\r\nHost: a.example\r\nX: ", "ends": b"\r\n\r\n"}
_KEY = bytes(range(48)).hex()
_AES = {"key_file": "{folder}/key", "spi": 4096}
_SEALED = (64, 512, 1400)
"""What ESP adds must still fit a frame."""
_OPEN = partial(OpenedConnections, 64)


def _signatures(count: int) -> list[Config]:
    signatures = [
        {"id": n, "content": f"EVIL{n}", "protocol": "tcp", "ports": ["80"]} for n in range(count)
    ]
    return [*signatures, {"id": count, "content": "EVIL", "protocol": "udp"}]


WORKLOADS: Mapping[str, Workload] = {
    "acl": _of_rules({"action": "permit"}, {"default": "deny"}),
    "aes_encrypt": Workload(_AES, files={"key": _KEY}, sizes=_SEALED),
    "aes_decrypt": Workload(_AES, files={"key": _KEY}, sizes=_SEALED, of="aes_encrypt"),
    "cache_observer": Workload({"ports": ["80"]}, connections=_OPEN, **_HTTP),
    "dedup": Workload({"window_ms": 1000, "max_packets": 4096}, state=True),
    "dnat": Workload({"address": PUBLIC, "port": 5353}, state=True),
    "dns_guard": Workload({"block": ["ads.example"], "ports": ["53"]}, questions, sizes=SIZES[:1]),
    "dscp_marker": _of_rules({"dscp": 46}),
    "flow_monitor": Workload({}, state=True),
    "hash_lb": Workload(
        {
            "virtual": [
                {"address": PUBLIC, "backends": [{"address": "10.0.0.1"}, {"address": "10.0.0.2"}]}
            ]
        },
        arrivals,
        "outside",
        "inside",
    ),
    "ids": Workload(
        {"signatures": _signatures(10), "action": "drop"},
        many={"signatures": _signatures(MANY), "action": "drop"},
        connections=_OPEN,
    ),
    "l4_load_balancer": Workload(
        {
            "virtual": [
                {
                    "address": PUBLIC,
                    "protocol": "udp",
                    "port": 80,
                    "backends": [
                        {"address": "10.0.0.1", "port": 80},
                        {"address": "10.0.0.2", "port": 80},
                    ],
                }
            ]
        },
        arrivals,
        "outside",
        "inside",
        state=True,
    ),
    "label_filter": Workload({"rules": [{"label": 0, "action": "permit"}]}),
    "mirror": _of_rules({}, copies=2),
    "napt": Workload({"addresses": [PUBLIC]}, state=True),
    "policer": _of_rules({"rate": 10**12, "burst": 1 << 30}),
    "router": Workload(
        {"routes": _ROUTES, **_GATEWAY}, many={"routes": [*_ROUTES, *_MORE_ROUTES], **_GATEWAY}
    ),
    "stateful_firewall": Workload({"default": "permit"}, state=True),
    "static_nat": Workload({"pairs": _PAIRS}),
    "traffic_shaper": Workload({"rate": 10**11, "burst": 1 << 30, "queue": 1 << 20}),
    "ttl_guard": _of_rules({"min": 1, "max": 255}),
    "url_filter": Workload(
        {"rules": [{"path": "/secret*", "action": "deny"}], "ports": ["80"]},
        connections=_OPEN,
        **_HTTP,
    ),
    "vlan_pop": Workload({}),
    "vlan_push": Workload({"vid": 7}),
    "vxlan_decap": Workload({"vni": 77, "local": PUBLIC}, in_vxlan, "outside", "inside"),
    "vxlan_encap": Workload({"vni": 77, "local": "198.51.100.13", "remote": PUBLIC}),
}
