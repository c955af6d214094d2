"""Which state a move or a following is of, and how it is named."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from orchestrator.model.match import Prefix
from orchestrator.model.plan import EVERYWHERE, Region
from servernf.proto import vnf_pb2

_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class MovedScope:
    """Some buckets of an NF's state, of which there are `of`, by `key`; without a key, everything. Of
    these buckets the flows of a `space` only, but not those `without`."""

    key: str = ""
    of: int = 0
    buckets: tuple[int, ...] = ()
    space: Region = EVERYWHERE
    without: tuple[Region, ...] = ()

    def __str__(self) -> str:
        if not self.key:
            return "everything"
        some = f"{len(self.buckets)} of {self.of} buckets"
        if self.space != EVERYWHERE:
            return f"{self.space} in {some}"
        if self.without:
            return f"{some} (but for {len(self.without)} flow spaces)"
        return some

    def message(self) -> vnf_pb2.StateScope:
        """As workers are told it."""
        told = vnf_pb2.StateScope(key=self.key, of=self.of, buckets=self.buckets)
        told.inside, told.outside = _texts(self.space)
        for region in self.without:
            inside, outside = _texts(region)
            told.without.add(inside=inside, outside=outside)
        return told


EVERYTHING = MovedScope()


def id_of(what: object) -> str:
    """The same for whoever makes the transaction again: `what` says itself all that it is."""
    return blake2b(repr(what).encode(), digest_size=_ID_BYTES).hexdigest()


def _texts(region: Region) -> tuple[str, str]:
    return _text(region.inside), _text(region.outside)


def _text(prefix: Prefix | None) -> str:
    return "" if prefix is None else str(prefix)
