"""Writes access.json, routes.txt and signatures.json of this example; the same bytes every time.

All prefixes are reserved for documentation, benchmarks or shared address space (RFC 5737, 2544, 6598,
3849): nobody's real network is named.
"""

from __future__ import annotations

import ipaddress
import json
import random
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HOPS_4 = ("198.51.100.13", "198.51.100.14")
HOPS_6 = ("2001:db8:2::13", "2001:db8:2::14")
SHARED = ipaddress.ip_network("100.64.0.0/10")
BENCH = ipaddress.ip_network("198.18.0.0/15")
DOC6 = ipaddress.ip_network("2001:db8:8000::/33")

Rule = dict[str, Any]


def subnet(rng: random.Random, block: Any, length: int) -> str:
    """A random subnet of that length."""
    size = block.max_prefixlen - length
    host = rng.randrange(1 << (length - block.prefixlen)) << size
    return f"{block.network_address + host}/{length}"


def access(rng: random.Random) -> list[Rule]:
    """What campus hosts may not do; the default permits the rest."""
    rules: list[Rule] = []

    def add(action: str, **match: object) -> None:
        rules.append({"action": action, **match})

    # Scans and spoofed sources first.
    for flags in ("0x03/0x03", "0x06/0x06", "0x00/0x3f", "0x29/0x3f"):
        add("deny", protocol="tcp", tcp_flags=flags)
    for source in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.2.0/24", "224.0.0.0/3"):
        add("deny", src=source)
    add("deny", src="2001:db8:dead::/48")
    # Mail and names only by the servers that are meant for them.
    for number in range(40):
        add("permit", protocol="tcp", dst=f"198.18.25.{number + 1}/32", dst_port=25)
    add("deny", protocol="tcp", dst_port=25)
    for resolver in (*HOPS_4, *HOPS_6, "198.18.53.1", "198.18.53.2"):
        for protocol in ("udp", "tcp"):
            length = 128 if ":" in resolver else 32
            add("permit", protocol=protocol, dst=f"{resolver}/{length}", dst_port=53)
    for protocol in ("udp", "tcp"):
        add("deny", protocol=protocol, dst_port=53)
    # Protocols that do not leave a campus.
    for port in (23, 111, 135, 139, 445, 512, 513, 514, 1433, 2049, 3306, 3389, 5432, 6379, 11211):
        add("deny", protocol="tcp", dst_port=port)
    for ports in ("67-69", 111, "135-139", "161-162", 1434, 1900, 5353, 11211):
        add("deny", protocol="udp", dst_port=ports)
    add("deny", protocol="tcp", dst_port="5900-5999")
    add("deny", protocol=47)
    # A laboratory that may use a remote desktop of its partners, an exception the other way round.
    for number in range(20):
        add(
            "deny",
            src="10.0.1.128/25",
            dst=subnet(rng, SHARED, 24),
            protocol="tcp",
            dst_port=f"{4000 + 10 * number}-{4009 + 10 * number}",
        )
    # Networks that nobody shall reach.
    seen: set[str] = {"198.18.25.0/24", "198.18.53.0/24"}
    while len(seen) < 122:
        prefix = subnet(rng, rng.choice((SHARED, BENCH)), rng.choice((22, 24, 24, 26)))
        if prefix not in seen:
            seen.add(prefix)
            add("deny", dst=prefix)
    add("deny", dst="198.18.66.0/24")
    for _ in range(24):
        add("deny", dst=subnet(rng, DOC6, rng.choice((40, 48))))
    return rules


def routes(rng: random.Random) -> list[str]:
    """The outside: two neighbours, thousands of prefixes behind them."""
    lines = [
        "# prefix next_hop ('-': connected); written by generate.py",
        "198.51.100.0/24 -",
        "2001:db8:2::/64 -",
        f"0.0.0.0/0 {HOPS_4[0]}",
        f"::/0 {HOPS_6[0]}",
    ]
    chosen: dict[str, str] = {}
    plan = (
        (2600, SHARED, (16, 20, 22, 24, 24, 24)),
        (400, BENCH, (20, 24, 24, 28)),
        (600, DOC6, (40, 44, 48, 48)),
    )
    for count, block, lengths in plan:
        hops = HOPS_6 if block is DOC6 else HOPS_4
        goal = len(chosen) + count
        while len(chosen) < goal:
            chosen.setdefault(subnet(rng, block, rng.choice(lengths)), rng.choice(hops))
    ordered = sorted(chosen.items(), key=lambda item: _sort_key(item[0]))
    return lines + [f"{prefix} {hop}" for prefix, hop in ordered]


def _sort_key(prefix: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(prefix)
    return network.version, int(network.network_address), network.prefixlen


def signatures() -> list[dict[str, Any]]:
    """Harmless markers of our own, in place of a real signature set."""
    result: list[dict[str, Any]] = []
    for number in range(1, 25):
        result.append(
            {
                "id": 1000 + number,
                "content": f"campus-test-signature-{number:04}",
                "protocol": "tcp",
                "ports": ["80", "8000-8100"],
            }
        )
    result.append(
        {
            "id": 1025,
            "content": "campus|00 ff|binary|0d 0a|marker",
            "protocol": "tcp",
            "ports": ["80", "8000-8100"],
        }
    )
    for number in range(1, 9):
        result.append(
            {
                "id": 2000 + number,
                "content": f"campus-test-tunnel-{number:04}",
                "protocol": "udp",
                "ports": ["53"],
            }
        )
    return result


def lines_of(items: list[dict[str, Any]]) -> str:
    """A JSON list with one item a line: a rule's index is its line less 2."""
    return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in items) + "\n]\n"


def main() -> None:
    """Write the three files."""
    rng = random.Random(20)
    (HERE / "access.json").write_text(lines_of(access(rng)))
    (HERE / "routes.txt").write_text("\n".join(routes(rng)) + "\n")
    (HERE / "signatures.json").write_text(lines_of(signatures()))


if __name__ == "__main__":
    main()
