"""napt: network address and port translation (RFC 4787, RFC 5382, RFC 5508), IPv4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from orchestrator.model.elements import (
    DROP,
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Leave,
    PoolShare,
    Relation,
    StatefulProgram,
    StateKey,
)
from orchestrator.model.match import Match, PortRange, Prefix
from orchestrator.nfs.base import NetworkFunction, NfConfig, Reference, network_function
from orchestrator.nfs.napt_reference import MAX_SESSIONS, NaptReference, NaptRules
from orchestrator.nfs.values import PROTOCOLS, Ipv4Field, address_text
from servernf.wire.buckets import bucket_ports, pool_buckets

Seconds = Annotated[int, Field(gt=0, strict=True)]
PortNumber = Annotated[int, Field(ge=0, le=65535, strict=True)]


class NaptTimeouts(BaseModel):
    """Idle times after which a mapping is forgotten, seconds (RFC 4787 REQ-5, RFC 5382 REQ-5)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    udp: Seconds = 300
    tcp_established: Seconds = 7440
    tcp_transitory: Seconds = 240
    icmp: Seconds = 60


class NaptConfig(NfConfig):
    """The pool and how strict the translation is."""

    addresses: Annotated[tuple[Ipv4Field, ...], Field(min_length=1)]
    ports: tuple[PortNumber, PortNumber] = (1024, 65535)
    filtering: Literal[
        "endpoint_independent", "address_dependent", "address_and_port_dependent"
    ] = "endpoint_independent"
    max_mappings_per_address: Annotated[int, Field(ge=1, le=65_535, strict=True)] | None = None
    ipv6: Literal["pass", "drop"] = "pass"
    timeouts_s: NaptTimeouts = NaptTimeouts()

    @field_validator("addresses")
    @classmethod
    def _unique(cls, addresses: tuple[int, ...]) -> tuple[int, ...]:
        for index, address in enumerate(addresses):
            if address in addresses[:index]:
                raise ValueError(f"{address_text((4, address))} is given twice")
        return addresses

    @field_serializer("addresses")
    def _as_text(self, addresses: tuple[int, ...]) -> list[str]:
        return [address_text((4, address)) for address in addresses]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.ports
        if low > high:
            raise ValueError(f"ports [{low}, {high}] are empty; did you mean [{high}, {low}]?")
        return self


@network_function("napt")
class Napt(NetworkFunction[NaptConfig]):
    """Inside: `select`, `translate`. Outside: `owner` (is it the pool's?), `translate`."""

    Config = NaptConfig
    state_key = StateKey(frozenset({"inside_address"}), partitioned=frozenset({"outside"}))
    relation = Relation("consistent_mapping", "external address and port of each mapping")
    keeps_state_when_changed = frozenset(
        {
            "addresses",
            "ports",
            "buckets",
            "filtering",
            "max_mappings_per_address",
            "ipv6",
            "timeouts_s",
        }
    )
    cost = CostProfile(
        519,
        0.0,
        "Lemur (CoNEXT'20), NAT, 1500 B at 1.7 GHz",
        state_entry_bytes=1078,  # measured (CPython 3.11, tracemalloc), each its own source
    )

    @property
    def state_entries(self) -> int:
        low, high = self.config.ports
        mappings = 3 * len(self.config.addresses) * (high - low + 1)  # TCP, UDP, ICMP
        return mappings + 2 * MAX_SESSIONS  # one takes as much as two mappings

    def elements(self, port: str) -> ElementGraph:
        if port == "inside":
            first, program, left = "select", self._select(), "outside"
        else:
            first, program, left = "owner", self._owner(), "inside"
        reason = "keeps a mapping for each inside address and port"
        return ElementGraph(
            first,
            {
                first: Element(first, program, ("translate", "pass")),
                "translate": Element("translate", StatefulProgram(reason), (left,)),
            },
            {
                (first, "translate"): "translate",
                (first, "pass"): Leave(left),
                ("translate", left): Leave(left),
            },
        )

    def _select(self) -> FilterProgram:
        translated = tuple(
            FilterRule(Match(version=4, protocol=PROTOCOLS[name]), "translate", f"IPv4 {name}")
            for name in ("tcp", "udp", "icmp")
        )
        return FilterProgram((*translated, self._ipv6_rule()), DROP)

    def _owner(self) -> FilterProgram:
        owned = tuple(
            FilterRule(Match(dst=Prefix(4, a, 32)), "translate", f"pool {address_text((4, a))}")
            for a in self.config.addresses
        )
        return FilterProgram((*owned, self._ipv6_rule()), DROP)

    def _ipv6_rule(self) -> FilterRule:
        output = "pass" if self.config.ipv6 == "pass" else DROP
        return FilterRule(Match(version=6), output, f"ipv6 {self.config.ipv6}")

    def reference(self) -> Reference:
        config, times = self.config, self.config.timeouts_s
        return NaptReference(
            NaptRules(
                addresses=config.addresses,
                ports=PortRange(*config.ports),
                filtering=config.filtering,
                max_mappings=config.max_mappings_per_address,
                ipv6_passes=config.ipv6 == "pass",
                udp_us=times.udp * 1_000_000,
                tcp_established_us=times.tcp_established * 1_000_000,
                tcp_transitory_us=times.tcp_transitory * 1_000_000,
                icmp_us=times.icmp * 1_000_000,
            )
        )

    def runtime_config(self) -> Mapping[str, Any]:
        return self.config.model_dump(mode="json", exclude_none=True)

    @classmethod
    def state_lost(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        whole = super().state_lost(before, after)
        lost = [whole] if whole else []
        was, now = before.get("buckets", 1), after.get("buckets", 1)
        if not set(before["addresses"]) <= set(after["addresses"]) or any(
            low < now_low or now_high < high
            for (low, high), (now_low, now_high) in zip(
                _dealt(before, max(was, now)), _dealt(after, max(was, now)), strict=True
            )
        ):
            lost.append("mappings to addresses or ports that their bucket no longer has")
        if after["filtering"] not in ("endpoint_independent", before["filtering"]):
            lost.append("whom its mappings let in, until inside sends again")
        return "; ".join(lost)

    def pool_buckets(self, replicas: int) -> int:
        low, high = self.config.ports
        return pool_buckets(high - low + 1, replicas)

    def pool_share(self, first: int, last: int, buckets: int) -> PoolShare:
        """A range of every address's ports; all of them: the addresses, whatever the port."""
        if last - first + 1 == buckets:
            return PoolShare(self.config.addresses)
        return PoolShare(
            self.config.addresses, *bucket_ports(*self.config.ports, first, last, buckets)
        )

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        return [("outside", 4, address) for address in self.config.addresses]


def _dealt(config: Mapping[str, Any], parts: int) -> list[tuple[int, int]]:
    """The ports, lowest and highest, of each of so many parts of the hash, by a worker's config."""
    (low, high), buckets = config["ports"], config.get("buckets", 1)
    whose = (part * buckets // parts for part in range(parts))
    return [bucket_ports(low, high, bucket, bucket, buckets) for bucket in whose]
