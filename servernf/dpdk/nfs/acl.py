"""acl: rules that choose 0 (permit) or 1 (deny)."""

from __future__ import annotations

from servernf.dpdk.conditions import rules
from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields


@form("acl")
def acl(config: Fields, making: Making) -> bytes:
    return rules(config, lambda rule, _: _denies(rule, "action"), _denies(config, "default"))


def _denies(fields: Fields, key: str) -> int:
    return int(fields.raw(key) == "deny")
