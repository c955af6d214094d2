"""Random table entries for any P4Info, with values that packets are likely to meet."""

from __future__ import annotations

import random
from collections.abc import Sequence

from finsy.proto import p4i, p4r

PORTS = (1, 2, 3, 4, 7)


def canonical(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


class EntryMaker:
    """Updates of one program; `pools` holds values by field name, tried first."""

    def __init__(
        self, info: p4i.P4Info, rng: random.Random, pools: dict[str, Sequence[int]] | None = None
    ) -> None:
        self.info = info
        self.rng = rng
        self.pools = pools or {}
        self.actions = {a.preamble.id: a for a in info.actions}

    def value(self, name: str, width: int) -> int:
        pool = self.pools.get(name)
        ones = (1 << width) - 1
        if pool and self.rng.random() < 0.9:
            return self.rng.choice(pool) & ones
        return self.rng.choice(
            (0, 1, self.rng.randrange(min(8, ones) + 1), ones, self.rng.getrandbits(width))
        )

    def entry(self, table: p4i.Table) -> p4r.Update | None:
        rng = self.rng
        update = p4r.Update(type=p4r.Update.INSERT)
        e = update.entity.table_entry
        e.table_id = table.preamble.id
        kind = p4i.MatchField
        for f in table.match_fields:
            v, ones = self.value(f.name, f.bitwidth), (1 << f.bitwidth) - 1
            if f.match_type == kind.EXACT:
                e.match.add(field_id=f.id).exact.value = canonical(v)
            elif rng.random() < 0.25:
                pass
            elif f.match_type == kind.LPM and f.bitwidth % 8:
                pass  # PI checks such a prefix as if its field had whole bytes
            elif f.match_type == kind.LPM:
                n = rng.randrange(1, f.bitwidth + 1)
                m = e.match.add(field_id=f.id)
                m.lpm.value = canonical(v >> (f.bitwidth - n) << (f.bitwidth - n))
                m.lpm.prefix_len = n
            elif f.match_type == kind.TERNARY:
                mask = rng.choice((ones, 1, ones ^ (ones >> 1), rng.getrandbits(f.bitwidth) or 1))
                m = e.match.add(field_id=f.id)
                m.ternary.value, m.ternary.mask = canonical(v & mask), canonical(mask)
            elif f.match_type == kind.RANGE:
                high = min(ones, v + rng.choice((0, 1, 5, ones)))
                if (v, high) != (0, ones):
                    m = e.match.add(field_id=f.id)
                    m.range.low, m.range.high = canonical(v), canonical(high)
            else:
                e.match.add(field_id=f.id).optional.value = canonical(v)
        if any(f.match_type not in (kind.EXACT, kind.LPM) for f in table.match_fields):
            # Equal priorities leave the winner open: every entry has its own.
            self.priority = getattr(self, "priority", 0) + rng.randrange(1, 9)
            e.priority = self.priority
        usable = [r.id for r in table.action_refs if r.scope != p4i.ActionRef.DEFAULT_ONLY]
        if not usable:
            return None
        action = self.actions[rng.choice(usable)]
        e.action.action.action_id = action.preamble.id
        for p in action.params:
            v = rng.choice(PORTS) if p.name == "port" else self.value(p.name, p.bitwidth)
            e.action.action.params.add(param_id=p.id, value=canonical(v & ((1 << p.bitwidth) - 1)))
        return update

    def entries(self, each: int) -> list[p4r.Update]:
        out: list[p4r.Update] = []
        for table in self.info.tables:
            if table.is_const_table or not table.match_fields or table.implementation_id:
                continue
            for _ in range(self.rng.randrange(each + 1)):
                update = self.entry(table)
                if update is not None:
                    out.append(update)
        return out


def replication() -> list[p4r.Update]:
    """Multicast group 1 and clone session 9."""
    group, session = p4r.Update(type=p4r.Update.INSERT), p4r.Update(type=p4r.Update.INSERT)
    g = group.entity.packet_replication_engine_entry.multicast_group_entry
    g.multicast_group_id = 1
    for port, instance in ((1, 0), (3, 0), (4, 7)):
        g.replicas.add(egress_port=port, instance=instance)
    s = session.entity.packet_replication_engine_entry.clone_session_entry
    s.session_id = 9
    s.replicas.add(egress_port=7, instance=3)
    return [group, session]
