"""dscp_marker: rules that choose a DSCP."""

from __future__ import annotations

from servernf.dpdk.conditions import NOTHING, rules
from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields


@form("dscp_marker")
def dscp_marker(config: Fields, making: Making) -> bytes:
    default = config.integer("default", 0, 63) if config.has("default") else NOTHING
    return rules(config, lambda rule, _: rule.integer("dscp", 0, 63), default)
