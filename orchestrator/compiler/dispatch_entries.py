"""Entries by which a switch finds the core that owns a packet: classes, owners, slices of the hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.compiler.wiring import Wiring
from orchestrator.model.entries import Between, Exact, Key, Lpm, Ternary
from orchestrator.model.match import Prefix, range_prefixes
from orchestrator.model.plan import ClassMap, Core, HashSlice, Region
from orchestrator.model.refs import Ref, SegmentRef
from orchestrator.model.symbolic import SymbolicEntry
from orchestrator.placement.classes import partitioned, specificity
from servernf.wire.addresses import device_mac, mac_text
from servernf.wire.buckets import HASH_BITS

_ADDRESS_BITS = 128
_BASE_PRIORITY = 1
_SPACES = 2 * _ADDRESS_BITS
"""Flow spaces come before all classes: these fix no more bits."""
TO_DEVICE = "to_device"
"""The action of a table that names the next device; it is the one that has a traffic class."""

Keys = tuple[tuple[str, Key | Ref], ...]
ToCore = Callable[[Keys, int, str, str, int], SymbolicEntry]
"""(keys, the core's MAC, table, origin, priority) -> the entry that sends packets there."""


def dispatch_entries(
    wiring: Wiring,
    segment: SegmentRef,
    target: str,
    tree: int,
    to_core: ToCore,
    new_segment: Callable[[str], SegmentRef],
) -> Iterator[SymbolicEntry]:
    """From a segment of a switch to the cores of the group that starts with `target`.

    A group with several classes has a segment for the slices of each (`new_segment`).
    """
    index = wiring.group_of[target]
    group, cores = wiring.cuts.groups[index], wiring.plan.cores_of[index]
    from_outside = wiring.units[target].port == "outside"
    pool: str | None = None
    if group.spread == "pair":
        field = "pair"
    elif (pool := partitioned(wiring.functions, wiring.cuts, group, target)) is not None or (
        group.spread == "inside_address"
    ) == from_outside:
        field = "destination"
    else:
        field = "source"

    def mac_of(core: Core) -> int:
        return device_mac(wiring.fabric.device_id(core.server), core=core.index + 1, tree=tree)

    mine = ("segment", segment)

    def slices(at: SegmentRef, owned: Sequence[HashSlice]) -> Iterator[SymbolicEntry]:
        for own in owned:
            for value, length in range_prefixes(own.low, own.high - 1, HASH_BITS):
                keys: Keys = (("segment", at), *((("hash", Lpm(value, length)),) if length else ()))
                origin = f"to {target}: core {own.core}"
                yield to_core(keys, mac_of(own.core), "dispatch.next", origin, 0)

    maps = wiring.plan.dispatch[index]
    if len(cores) == 1:
        maps = (ClassMap((), (), (HashSlice(cores[0], 0, 1 << HASH_BITS),)),)
    how = f"by_{field}" if pool is None else "by_owner"
    if len(maps) > 1:
        how = "by_class" if pool is None else "by_owner_or_class"
    yield SymbolicEntry("dispatch.spread", (mine,), f"dispatch.{how}", (), 0, f"to {target}")
    if pool is not None:
        owned = [(mac_of(own.core), own) for classes in maps for own in classes.slices]
        yield from _owners(wiring, segment, pool, len(cores), owned, to_core)
    if len(maps) == 1:
        yield from slices(segment, maps[0].slices)
        return
    for classes in maps:
        inner = new_segment(target)
        first = _BASE_PRIORITY + (_SPACES if classes.is_space else 0)
        words = "flow space" if classes.is_space else " + ".join(classes.traffics) or "all others"
        for region in classes.regions or (Region(None, None),):
            yield SymbolicEntry(
                "dispatch.classes",
                (mine, *_region_keys(region, from_outside)),
                f"dispatch.class_by_{field}",
                (("segment", inner),),
                first + specificity(region),
                f"to {target}: {words}",
            )
        yield from slices(inner, classes.slices)


def _owners(
    wiring: Wiring,
    segment: SegmentRef,
    pool: str,
    replicas: int,
    owned: Sequence[tuple[int, HashSlice]],
    to_core: ToCore,
) -> Iterator[SymbolicEntry]:
    """A pool's addresses and the ports of its buckets, each with the core that owns these.

    The ports of a prefix of the hash are one range. The longer the prefix, the higher its priority: so
    buckets can change hands one by one, as they do in a table of prefixes.
    """
    function = wiring.functions[pool]
    buckets = function.pool_buckets(replicas) or 1
    for mac, own in owned:
        for value, length in range_prefixes(own.low, own.high - 1, HASH_BITS):
            first = value * buckets >> HASH_BITS
            last = ((value + (1 << HASH_BITS - length)) * buckets >> HASH_BITS) - 1
            share = function.pool_share(first, last, buckets)
            for address in share.addresses:
                keys: Keys = (("segment", segment), ("address", Exact(address)))
                if (share.low, share.high) != (0, 65535):
                    ports = ("port", Between(share.low, share.high))
                    keys = (*keys, ("has_port", Ternary(1, 1)), ports)
                origin = f"{pool}: owner of {mac_text(mac)}"
                yield to_core(keys, mac, "dispatch.owner", origin, 1 + length)


def _region_keys(region: Region, from_outside: bool) -> Iterator[tuple[str, Key]]:
    """A region in the direction of the packets."""
    src, dst = region.inside, region.outside
    if from_outside:
        src, dst = dst, src
    for name, prefix in (("src", src), ("dst", dst)):
        if prefix is not None:
            yield name, _wide(prefix)


def _wide(prefix: Prefix) -> Ternary:
    """A prefix over the 128 bits that hold an address of either version."""
    host_bits = prefix.bits - prefix.length
    return Ternary(prefix.value, (1 << _ADDRESS_BITS) - (1 << host_bits))
