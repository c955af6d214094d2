"""Flow spaces: flows of a group that were moved to another core than the rest of their buckets.

One more entry each tells a dispatching switch (`dispatch.classes`), so there are no more than
MOST_SPACES of a group, and none where packets do not show it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from orchestrator.errors import InputError
from orchestrator.model.plan import ClassMap, Core, HashSlice, Region
from orchestrator.placement.classes import covers, meet
from servernf.wire.buckets import HASH_BITS, MOST_SPACES

_HASHES = 1 << HASH_BITS
_HIDES = {"inside_address": "outside", "outside_address": "inside"}
"""By what packets find their core: the address that some of a group's NFs may change."""


def divided(
    classes: Iterable[ClassMap],
) -> tuple[tuple[ClassMap, ...], tuple[ClassMap, ...]]:
    """The classes that placement tells apart, and the flow spaces."""
    listed = tuple(classes)
    return tuple(c for c in listed if not c.is_space), tuple(c for c in listed if c.is_space)


def why_none(
    nf: str, key: str, space: Region, pools: Collection[str], doubled: Collection[str]
) -> str:
    """Why no switch can bring the flows of a space to a core of their own; empty: it can."""
    if key == "one":
        return f"{nf} has none: all of its state belongs together"
    if pools:
        return (
            f"what answers {', '.join(sorted(pools))} from outside shows its bucket, and no flow space"
            " within it: name --buckets"
        )
    if doubled:
        return (
            f"a standby follows buckets of {', '.join(sorted(doubled))}, and no flow space within one:"
            " name --buckets"
        )
    side = _HIDES.get(key, "")
    if side and getattr(space, side) is not None:
        return f"packets find {nf}'s core by {key}, and may have another address {side}: name none"
    return ""


def with_space(
    classes: Sequence[ClassMap], space: Region, chosen: Collection[int], of: int, target: Core
) -> tuple[ClassMap, ...]:
    """The flows of a space in the chosen buckets, of which there are `of`, given to a core; InputError
    when it meets another space, its flows have several owners, or there are too many."""
    base, spaces = divided(classes)
    others = [other for other in spaces if other.regions != (space,)]
    for other in others:
        if meet(other.regions[0], space):
            raise InputError(
                f"flow space: {space} meets {other.regions[0]}, which is elsewhere already: move that"
                " one, or all of its buckets"
            )
    if len(others) >= MOST_SPACES:
        raise InputError(
            f"flow space: {len(others)} of {MOST_SPACES} are taken: move all of their buckets to give"
            " some back"
        )
    now = next((s for s in spaces if s.regions == (space,)), None)
    unit = _HASHES // of
    slices: list[HashSlice] = []
    for bucket in range(of):
        low = bucket * unit
        owners = {owner(c.slices, low) for c in ((now,) if now else around(base, space))}
        if len(owners) > 1:
            raise InputError(
                f"flow space: {space} is of several traffic classes on other cores each: name one"
                " that lies in one of them"
            )
        core = target if bucket in chosen else owners.pop()
        if slices and slices[-1].core == core:
            low = slices.pop().low
        slices.append(HashSlice(core, low, (bucket + 1) * unit))
    return folded((ClassMap((), (space,), tuple(slices), is_space=True), *others, *base))


def folded(classes: Sequence[ClassMap]) -> tuple[ClassMap, ...]:
    """Without the spaces whose flows are where the rest of their buckets is."""
    base, spaces = divided(classes)
    kept = [s for s in spaces if any(_owners(s) != _owners(c) for c in around(base, s.regions[0]))]
    return (*sorted(kept, key=lambda s: str(s.regions[0])), *base)


def around(base: Iterable[ClassMap], space: Region) -> Iterator[ClassMap]:
    """Classes that a space is in, or may have some flow of."""
    listed = list(base)
    is_inside = any(covers(region, space) for class_map in listed for region in class_map.regions)
    for class_map in listed:
        if any(meet(region, space) for region in class_map.regions) or (
            not class_map.regions and not is_inside
        ):
            yield class_map


def owner(slices: Iterable[HashSlice], value: int) -> Core:
    """Who has a value of the hash."""
    return next(s.core for s in slices if s.low <= value < s.high)


def _owners(class_map: ClassMap) -> list[tuple[Core, int]]:
    """Who has up to which value of the hash."""
    ends: list[tuple[Core, int]] = []
    for own in sorted(class_map.slices, key=lambda s: s.low):
        if ends and ends[-1][0] == own.core:
            ends.pop()
        ends.append((own.core, own.high))
    return ends
