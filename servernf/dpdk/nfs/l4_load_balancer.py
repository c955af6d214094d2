"""l4_load_balancer: how many services and backends, idle time, health checks; its tables; services,
backends, and by version of which protocols packets to services and from backends may be."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import cast

from servernf.dpdk.forms import Making, addresses, datagrams, form, words
from servernf.python.backend_health import BackendHealth
from servernf.python.nfs.l4_load_balancer import MAX_CONNECTIONS, L4LoadBalancer
from servernf.python.packet import TCP
from servernf.wire.fields import Fields

_NOT_JUDGED = 0xFFFF_FFFF
_NOT_DOWN = (1 << 64) - 1
_MOST_MISSES = 100
_WORDS = ("missed", "doubtful", "unheard", "down_until_us", "waits")
_FIELDS = (*_WORDS, *(f"waiting_{n}" for n in range(_MOST_MISSES)))
_MAY = {True: 1, False: 2}
"""TCP, UDP."""


class Health:
    """What is known of a backend as words (c/backend_health.h)."""

    _of: BackendHealth

    def __init__(self, of: BackendHealth) -> None:
        object.__setattr__(self, "_of", of)

    def __getattr__(self, name: str) -> int:
        missed, doubtful, unheard, down_until_us, waiting = self._of.known
        match name:
            case "missed":
                return missed
            case "doubtful":
                return int(doubtful)
            case "unheard":
                return int(unheard)
            case "down_until_us":
                return _NOT_DOWN if down_until_us is None else down_until_us
            case "waits":
                return len(waiting)
            case _:
                at = int(name.removeprefix("waiting_"))
                return waiting[at] if at < len(waiting) else 0

    def __setattr__(self, name: str, value: int) -> None:
        missed, doubtful, unheard, down_until_us, waiting = self._of.known
        waiting = list(waiting)
        match name:
            case "missed":
                missed = value
            case "doubtful":
                doubtful = bool(value)
            case "unheard":
                unheard = bool(value)
            case "down_until_us":
                down_until_us = None if value == _NOT_DOWN else value
            case "waits":
                waiting = (waiting + [0] * value)[:value]
            case _:
                at = int(name.removeprefix("waiting_"))
                if at < len(waiting):
                    waiting[at] = value
        self._of.known = missed, doubtful, unheard, down_until_us, waiting


@form("l4_load_balancer")
def l4_load_balancer(config: Fields, making: Making) -> bytes:
    nf = cast("L4LoadBalancer", making.nf)
    connections = making.table("connections", "balanced", MAX_CONNECTIONS)
    fragments, told = datagrams(making)
    judged = nf.health.records
    making.metrics = lambda: {
        "connections": connections.counts.count,
        "backends_down": sum(health.doubtful for health in judged.values()),
        **told(),
    }
    services: list[bytes] = []
    backends: list[bytes] = []
    virtual: dict[int, dict[int, int]] = {4: {}, 6: {}}
    real: dict[int, dict[int, int]] = {4: {}, 6: {}}
    for (version, protocol, address, port), service in nf.services.items():
        may = _MAY[protocol == TCP]
        virtual[version][address] = virtual[version].get(address, 0) | may
        numbers = version, protocol, port, len(backends), len(service), 0
        services.append(words(address) + struct.pack("=6I", *numbers))
        for backend in service:
            real[version][backend.address] = real[version].get(backend.address, 0) | may
            health = judged.get((version, *backend.end)) if protocol == TCP else None
            at = _NOT_JUDGED
            if health is not None:
                at = making.place(Health(health), _FIELDS, key=health)
            seeds = backend.port, backend.weight, backend.seed, at
            backends.append(words(backend.address) + struct.pack("=4I", *seeds))
    checks = nf.checks
    head = struct.pack(
        "=II3QI",
        len(services),
        len(backends),
        nf.idle_us,
        checks.timeout_us,
        checks.retry_us,
        checks.misses,
    )
    tables = struct.pack("=I", connections.number) + fragments
    may_be = [_may_be(of[version]) for version in (4, 6) for of in (virtual, real)]
    return b"".join((head, tables, *services, *backends, *may_be))


def _may_be(protocols: dict[int, int]) -> bytes:
    wanted: Iterable[tuple[int, int]] = protocols.items()
    return addresses(wanted)
