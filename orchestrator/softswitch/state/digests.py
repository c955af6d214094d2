"""Digests: samples from packets, batched into lists for the controller.

As P4Runtime (9.8) says: a list goes out when it is full or its oldest sample
has waited for `max_timeout_ns`; while a sample is unacknowledged, and no longer
than `ack_timeout_ns`, the same sample is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from finsy.proto import p4d, p4i, p4r, p4t, rpc_code

from orchestrator.softswitch.entity_errors import Named
from orchestrator.softswitch.packetmeta import canonical

Sample = tuple[int, ...]

MAX_PENDING = 1024
"""Samples in one list when the controller gives no limit (as BMv2)."""


def encode_sample(
    spec: p4t.P4DataTypeSpec, types: p4t.P4TypeInfo, values: Iterator[int], out: p4d.P4Data
) -> None:
    """Values in order into the shape that P4Info gives the digest's type."""
    which = spec.WhichOneof("type_spec")
    if which == "struct":
        for m in types.structs[spec.struct.name].members:
            encode_sample(m.type_spec, types, values, out.struct.members.add())
        return
    if which == "tuple":
        for member in spec.tuple.members:
            encode_sample(member, types, values, out.tuple.members.add())
        return
    if which == "header":
        out.header.is_valid = True
        for _ in types.headers[spec.header.name].members:
            out.header.bitstrings.append(canonical(next(values)))
        return
    if which == "bool":
        out.bool = bool(next(values))
        return
    out.bitstring = canonical(next(values))


class DigestQueue(Named):
    """One digest: its configuration, the list being filled, and what is unacknowledged."""

    word = "digest"

    def __init__(
        self,
        info: p4i.Digest,
        types: p4t.P4TypeInfo,
        clock: Callable[[], int],
        send: Callable[[p4r.DigestList], None],
    ) -> None:
        super().__init__(info.preamble)
        self.config: p4r.DigestEntry | None = None
        self._spec = info.type_spec
        self._types = types
        self._clock = clock
        self._send = send
        self._pending: list[Sample] = []
        self._since = 0
        self._next_list = 1
        self._known: set[Sample] = set()
        self._unacked: dict[int, tuple[int, list[Sample]]] = {}

    def learn(self, sample: Sample) -> None:
        """A packet's sample; under the switch's lock."""
        if self.config is None:
            return
        config = self.config.config
        if config.ack_timeout_ns > 0:
            if sample in self._known:
                return
            self._known.add(sample)
        if not self._pending:
            self._since = self._clock()
        self._pending.append(sample)
        limit = config.max_list_size or MAX_PENDING
        if len(self._pending) >= limit or config.max_timeout_ns <= 0:
            self.flush()

    def flush(self) -> None:
        assert self.config is not None
        now = self._clock()
        message = p4r.DigestList(digest_id=self.id, list_id=self._next_list, timestamp=now)
        for sample in self._pending:
            encode_sample(self._spec, self._types, iter(sample), message.data.add())
        if self.config.config.ack_timeout_ns > 0:
            self._unacked[self._next_list] = (now, self._pending)
        self._pending = []
        self._next_list += 1
        self._send(message)

    def tick(self) -> None:
        """Send what has waited long enough, forget what was not acknowledged in time."""
        if self.config is None:
            return
        now = self._clock()
        config = self.config.config
        if self._pending and now - self._since >= config.max_timeout_ns:
            self.flush()
        late = [i for i, (t, _) in self._unacked.items() if now - t >= config.ack_timeout_ns]
        for ident in late:
            self.ack(ident)

    def ack(self, list_id: int) -> None:
        _, samples = self._unacked.pop(list_id, (0, []))
        self._known.difference_update(samples)

    # ---------------------------------------------------------------- entities

    def decode(self, kind: int, e: p4r.DigestEntry) -> tuple[Callable[..., None], tuple[Any, ...]]:
        config = e.config
        for name in ("max_timeout_ns", "max_list_size", "ack_timeout_ns"):
            if getattr(config, name) < 0:
                raise self.invalid(
                    f"{name} {getattr(config, name)} is negative; 0 or more is expected"
                )
        return self.configure, (kind, e)

    def configure(self, kind: int, e: p4r.DigestEntry) -> None:
        if kind == p4r.Update.INSERT and self.config is not None:
            raise self.error(
                rpc_code.ALREADY_EXISTS, "it is configured; use MODIFY to change its config"
            )
        if kind != p4r.Update.INSERT and self.config is None:
            raise self.error(rpc_code.NOT_FOUND, "it is not configured; INSERT configures it")
        if kind == p4r.Update.DELETE:
            self.config = None
            self._pending = []
            self._known.clear()
            self._unacked.clear()
            return
        config = p4r.DigestEntry()
        config.CopyFrom(e)
        self.config = config
