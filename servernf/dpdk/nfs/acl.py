"""acl: rules that choose their own number, if they deny."""

from __future__ import annotations

from servernf.dpdk.conditions import NOTHING, rules
from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields


@form("acl")
def acl(config: Fields, making: Making) -> bytes:
    count = len(list(config.objects("rules", required=False)))
    making.rules = [*(f"rules[{number}]" for number in range(count)), "default"]
    return rules(
        config,
        lambda rule, number: _denies(rule, "action", number),
        _denies(config, "default", count),
    )


def _denies(fields: Fields, key: str, number: int) -> int:
    return number if fields.raw(key) == "deny" else NOTHING
