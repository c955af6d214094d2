"""stateful_firewall: only what the rules let a side open, and what belongs to it, passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from orchestrator.errors import InputError
from orchestrator.model.elements import (
    DROP,
    FLOW_FIELDS,
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Leave,
    StatefulProgram,
    StateKey,
)
from orchestrator.model.match import Match
from orchestrator.nfs.acl import OPPOSITE, AclRule, Action, PlacedRule, read_rules
from orchestrator.nfs.base import NetworkFunction, NfConfig, Reference, network_function
from orchestrator.nfs.files import Files
from orchestrator.nfs.stateful_firewall_reference import FirewallRules, StatefulFirewallReference
from orchestrator.nfs.values import match_json

Seconds = Annotated[int, Field(gt=0, strict=True)]
_IP_TYPES = (None, 0x0800, 0x86DD)


def unseen(match: Match) -> str | None:
    """Why no packet that opens something can meet the match, or None."""
    if match.later_fragment:
        return "later fragments follow their first one, no rule sees them"
    if match.ether_type not in _IP_TYPES:
        return "rules judge IP only; 'non_ip' is for the rest"
    return None


class FirewallRule(AclRule):
    """A match and whether what it matches first may be opened."""

    @model_validator(mode="after")
    def _is_seen(self) -> Self:
        reason = unseen(self.to_match())
        if reason is not None:
            raise ValueError(f"this can never match: {reason}")
        return self


class FirewallTimeouts(BaseModel):
    """Idle times after which a connection is forgotten, seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    udp: Seconds = 60
    tcp_established: Seconds = 7440
    tcp_transitory: Seconds = 60
    icmp: Seconds = 30


class FirewallConfig(NfConfig):
    """Inline rules come before those of the file; from outside nothing opens without a rule."""

    rules: tuple[FirewallRule, ...] = ()
    rules_file: str | None = None
    default: Action = "deny"
    inbound_rules: tuple[FirewallRule, ...] = ()
    non_ip: Literal["drop", "pass"] = "drop"
    max_connections: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 65_536
    timeouts_s: FirewallTimeouts = FirewallTimeouts()
    _from_file: tuple[PlacedRule, ...] = PrivateAttr(default=())

    def with_files(self, files: Files) -> Self:
        result = self.model_copy()
        if self.rules_file is not None:
            result._from_file = read_rules(files, self.rules_file, "permit")
            problems = [
                f"{origin}: this can never match: {reason}"
                for match, _, origin in result._from_file
                if (reason := unseen(match)) is not None
            ]
            if problems:
                raise InputError(problems)
        rules = (*result.outbound, *result.inbound)
        if self.default == "deny" and not any(action == "permit" for _, action, _ in rules):
            raise InputError(
                "a stateful_firewall that lets nobody open anything drops everything: "
                "give a rule that permits, or default 'permit'"
            )
        return result

    @property
    def outbound(self) -> tuple[PlacedRule, ...]:
        """What inside may open: inline rules, then the file's."""
        return (*_placed(self.rules, "rules"), *self._from_file)

    @property
    def inbound(self) -> tuple[PlacedRule, ...]:
        """What outside may open."""
        return _placed(self.inbound_rules, "inbound_rules")


def _placed(rules: tuple[FirewallRule, ...], name: str) -> tuple[PlacedRule, ...]:
    return tuple((rule.to_match(), rule.action, f"{name}[{i}]") for i, rule in enumerate(rules))


@network_function("stateful_firewall")
class StatefulFirewall(NetworkFunction[FirewallConfig]):
    """Elements of each port: `select` (stateless: is it IP?) and `track`."""

    Config = FirewallConfig
    state_key = StateKey(frozenset(FLOW_FIELDS))
    keeps_state_when_changed = frozenset(
        {"rules", "default", "inbound_rules", "non_ip", "max_connections", "timeouts_s"}
    )
    cost = CostProfile(
        700,
        0.0,
        "our estimate: flow lookup and timers as Lemur's NAT (519), which also rewrites, and the "
        "rules (ACL, 985) for the first packet of a connection, one in five or six",
        state_entry_bytes=1433,  # measured (CPython 3.11, tracemalloc), each its own source
    )

    @property
    def state_entries(self) -> int:
        return self.config.max_connections

    def elements(self, port: str) -> ElementGraph:
        left = OPPOSITE[port]
        passes = self.config.non_ip == "pass"
        rules = tuple(FilterRule(Match(version=v), "track", f"IPv{v}") for v in (4, 6))
        select = FilterProgram(rules, "pass" if passes else DROP)
        edges: dict[tuple[str, str], str | Leave] = {
            ("select", "track"): "track",
            ("track", left): Leave(left),
        }
        if passes:
            edges["select", "pass"] = Leave(left)
        outputs = ("track", "pass") if passes else ("track",)
        return ElementGraph(
            "select",
            {
                "select": Element("select", select, outputs),
                "track": Element(
                    "track",
                    StatefulProgram("keeps each connection's state", keeps_headers=True),
                    (left,),
                ),
            },
            edges,
        )

    def reference(self) -> Reference:
        config, times = self.config, self.config.timeouts_s
        return StatefulFirewallReference(
            FirewallRules(
                outbound=tuple((match, action == "permit") for match, action, _ in config.outbound),
                inbound=tuple((match, action == "permit") for match, action, _ in config.inbound),
                default_permits=config.default == "permit",
                non_ip_passes=config.non_ip == "pass",
                max_connections=config.max_connections,
                udp_us=times.udp * 1_000_000,
                tcp_established_us=times.tcp_established * 1_000_000,
                tcp_transitory_us=times.tcp_transitory * 1_000_000,
                icmp_us=times.icmp * 1_000_000,
            )
        )

    def rule_places(self) -> Mapping[str, Sequence[str]]:
        if self.config.rules_file is None:
            return {}
        return {"rules": tuple(place for _, _, place in self.config.outbound)}

    def runtime_config(self) -> Mapping[str, Any]:
        config = self.config

        def listed(rules: tuple[PlacedRule, ...]) -> list[dict[str, Any]]:
            return [{**match_json(match), "action": action} for match, action, _ in rules]

        return {
            "rules": listed(config.outbound),
            "default": config.default,
            "inbound_rules": listed(config.inbound),
            "non_ip": config.non_ip,
            "max_connections": config.max_connections,
            "timeouts_s": config.timeouts_s.model_dump(mode="json"),
        }
