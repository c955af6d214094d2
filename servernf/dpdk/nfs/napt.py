"""napt: how many addresses, its share of ports, filtering, limit, timeouts; its tables; addresses."""

from __future__ import annotations

import struct
from typing import cast

from servernf.dpdk.forms import Making, addresses, datagrams, form
from servernf.python.mappings import ESTABLISHED_TCP, MAX_SESSIONS
from servernf.python.nfs.napt import Napt
from servernf.python.packet import ICMP, TCP, UDP
from servernf.wire.errors import InputError
from servernf.wire.fields import Fields

MOST_MAPPINGS = 1 << 21
MOST_ADDRESSES = 1024
_FILTERINGS = ("endpoint_independent", "address_dependent", "address_and_port_dependent")
_TIMEOUTS = (UDP, TCP, ICMP, ESTABLISHED_TCP)


@form("napt")
def napt(config: Fields, making: Making) -> bytes:
    nf = cast("Napt", making.nf)
    owned, low, high, dealt = nf.share
    if len(owned) > MOST_ADDRESSES:
        raise InputError(
            f"{config.where}.addresses: the dpdk runtime has {MOST_ADDRESSES} at most, not {len(owned)}"
        )
    sessions = making.table("sessions", "sessions", MAX_SESSIONS)
    refers = struct.pack("=I", sessions.number)
    mappings = making.table("mappings", "mappings", MOST_MAPPINGS, refers)
    fragments, told = datagrams(making, "napt_fragments")
    making.metrics = lambda: {
        "mappings": mappings.counts.count,
        "sessions": sessions.counts.count,
        **told(),
    }
    filtering = _FILTERINGS.index(nf.filtering)
    numbers = len(owned), low, high, len(dealt), filtering, nf.limit, nf.ipv6_passes
    return b"".join(
        (
            struct.pack("=7I", *numbers),
            struct.pack("=4Q", *(nf.timeouts_us[kind] for kind in _TIMEOUTS)),
            struct.pack("=II", mappings.number, sessions.number),
            fragments,
            struct.pack(f"={len(owned)}I", *owned),
            addresses((address, number) for number, address in enumerate(owned)),
        )
    )
