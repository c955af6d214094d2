"""Click's classes: the acl rules decide every packet as the expressions do."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.graph.importers.click_classes import ClickDecision, first_match, parse_class

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}


@dataclass(frozen=True)
class Header:
    """What the classes look at; no ports: a later fragment or another protocol."""

    src: str
    dst: str
    protocol: int
    ports: tuple[int, int] | None


Holds = Callable[[Header], bool]
Expression = tuple[str, Holds]


def within(address: str, net: str) -> bool:
    return ip_address(address) in ip_network(net, strict=False)


def net(side: str, prefix: str) -> Expression:
    return f"{side} net {prefix}", lambda h: within(getattr(h, side), prefix)


def protocol(name: str) -> Expression:
    return f"ip proto {name}", lambda h: h.protocol == PROTOCOLS[name]


COMPARE = {"==": operator.eq, "!=": operator.ne, ">": operator.gt, "<=": operator.le}


def port(side: str, name: str, comparison: str, number: int) -> Expression:
    which, compare = ("src", "dst").index(side), COMPARE[comparison]

    def holds(h: Header) -> bool:
        of_it = h.protocol == PROTOCOLS[name] and h.ports is not None
        return of_it and compare(h.ports[which], number)  # type: ignore[index]

    return f"{side} {name} port {comparison} {number}", holds


SIDES = st.sampled_from(["src", "dst"])
PREFIXES = st.sampled_from(["10.0.0.0/24", "10.0.0.1/31", "10.0.0.0/8", "0.0.0.0/0", "11.0.0.0/31"])
PORTS = st.sampled_from([0, 80, 1023, 65535])
LEAVES = st.one_of(
    st.builds(net, SIDES, PREFIXES),
    st.builds(protocol, st.sampled_from(sorted(PROTOCOLS))),
    st.builds(port, SIDES, st.sampled_from(["tcp", "udp"]), st.sampled_from([*COMPARE]), PORTS),
)


def negated(inner: Expression) -> Expression:
    return f"!({inner[0]})", lambda h: not inner[1](h)


def conjunction(a: Expression, b: Expression) -> Expression:
    return f"({a[0]}) && ({b[0]})", lambda h: a[1](h) and b[1](h)


def disjunction(a: Expression, b: Expression) -> Expression:
    return f"({a[0]} or {b[0]})", lambda h: a[1](h) or b[1](h)


EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(negated, inner),
        st.builds(conjunction, inner, inner),
        st.builds(disjunction, inner, inner),
    ),
    max_leaves=5,
)
ADDRESSES = st.sampled_from(["10.0.0.0", "10.0.0.1", "10.0.1.1", "11.0.0.1", "12.0.0.1"])
HEADERS = st.builds(
    Header,
    ADDRESSES,
    ADDRESSES,
    st.sampled_from([1, 6, 17, 47]),
    st.one_of(st.none(), st.tuples(st.sampled_from([0, 79, 80, 1024, 65535]), PORTS)),
)


def rule_holds(keys: dict[str, Any], h: Header) -> bool:
    """As docs/functions defines a match."""
    for key, value in keys.items():
        if key in ("src", "dst"):
            holds = within(getattr(h, key), value)
        elif key == "protocol":
            holds = h.protocol == PROTOCOLS.get(value, value)
        elif key == "later_fragment":
            holds = h.ports is None and value
        else:
            low, _, high = value.partition("-")
            number = h.ports[("src_port", "dst_port").index(key)] if h.ports else -1
            holds = h.protocol in (6, 17) and int(low) <= number <= int(high or low)
        if not holds:
            return False
    return True


@pytest.mark.slow
@settings(deadline=None, max_examples=40)  # a busy machine is no failure
@given(
    st.lists(st.tuples(EXPRESSIONS, st.sampled_from(["permit", "deny"])), min_size=1, max_size=4),
    st.lists(HEADERS, min_size=1, max_size=30),
)
def test_rules_decide_as_the_classes_do(
    classes: list[tuple[Expression, str]], headers: list[Header]
) -> None:
    made = [ClickDecision(parse_class(text), action, "f") for (text, _), action in classes]
    rules = list(first_match(made, "deny"))
    for h in headers:
        if h.protocol not in (6, 17) and h.ports is not None:
            continue
        wanted = next((action for (_, holds), action in classes if holds(h)), "deny")
        got = next((action for keys, action, _ in rules if rule_holds(keys, h)), "deny")
        assert got == wanted, (h, [text for (text, _), _ in classes], rules)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("(dst net 10.0.0.0/8", "not closed"),
        ("dst net 10.0.0.0/8)", "unexpected '\\)'"),
        ("ip proto foo", "'foo' is no protocol"),
        ("src tcp port 70000", "is no port"),
        ("ip ttl 4", "'ip' is not supported"),
        ("ip frag", "'ip frag' is not supported"),
        ("!(src ether host 00:00:00:00:00:0a)", "not supported here"),
        ("dst net 10.0.0.0/8 ?", "unexpected '\\?'"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_class(text)


def test_a_mac_address_matters_only_where_no_earlier_rule_takes_its_packets() -> None:
    mac = ClickDecision(
        parse_class("dst tcp port 80 and src ether host 00:00:00:00:00:0a"), "permit", "f"
    )
    tcp = ClickDecision(parse_class("ip proto tcp"), "permit", "f")
    assert [keys for keys, _, _ in first_match([tcp, mac], "deny")] == [{"protocol": "tcp"}]
    with pytest.raises(ValueError, match="src ether host"):
        list(first_match([mac, tcp], "deny"))


def test_prefixes_that_exclude_each_other_are_no_explosion() -> None:
    either = "(src net 10.0.0.0/24 or dst net 10.0.0.0/24)"
    assert len(parse_class(f"!(src net 10.0.0.0/24 or {either})")) == 24 * 24


def test_classes_that_explode_are_refused() -> None:
    never = " && ".join(f"!(src net 10.{i}.0.0/32 || dst net 11.{i}.0.0/32)" for i in range(9))
    with pytest.raises(ValueError, match="more than 10000 rules"):
        list(first_match([ClickDecision(parse_class(never), "permit", "f")], "deny"))
