"""Action profiles and selectors: members, groups and what entries point to.

An entry of a table with a profile refers to a `Member` or a `SelectorGroup`, and
packets go from the entry to the member's action. Which member of a group a
hash picks follows BMv2 and PI: every member has as many handles as its largest
weight in any group, handles are the lowest free numbers, and a group is its
members' handles in order. Members whose watch port is down are passed over.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entity_errors import Named, listed

Args = tuple[int, ...]

MANUAL, ONE_SHOT = "members and groups", "action sets (one-shot)"


class Member:
    """An action with its arguments; what generated code runs (`a` -1: nothing)."""

    __slots__ = ("a", "args", "groups", "handles", "id", "is_group", "refs", "source")

    def __init__(self, ident: int, a: int, args: Args) -> None:
        self.id = ident
        self.a = a
        self.args = args
        self.refs = 0
        self.is_group = False
        self.handles: list[int] = []
        self.groups: dict[int, int] = {}
        self.source: p4r.Action | None = None


NO_MEMBER = Member(0, -1, ())


@dataclass(frozen=True, slots=True)
class WatchPort:
    """A watch port as the controller wrote it: `port`, or the older `watch` number."""

    port: int | None = None
    raw: bytes | None = None

    @classmethod
    def of(cls, m: p4r.ActionProfileGroup.Member | p4r.ActionProfileAction) -> WatchPort:
        which = m.WhichOneof("watch_kind")
        if which == "watch_port":
            return cls(int.from_bytes(m.watch_port, "big"), m.watch_port)
        if which == "watch":
            return cls(m.watch)  # pyright: ignore[reportDeprecated]
        return cls()

    def write(self, m: p4r.ActionProfileGroup.Member | p4r.ActionProfileAction) -> None:
        if self.raw is not None:
            m.watch_port = self.raw
        elif self.port is not None:
            m.watch = self.port  # pyright: ignore[reportDeprecated]


class SelectorGroup:
    """Members by weight; `live` is what a hash picks from."""

    __slots__ = ("a", "id", "is_group", "live", "max_size", "members", "one_shot", "refs", "slots")

    def __init__(self, ident: int, max_size: int = 0) -> None:
        self.id = ident
        self.a = -1
        self.is_group = True
        self.refs = 0
        self.max_size = max_size
        self.live: list[Member] = []
        self.slots: list[tuple[int, Member, int | None]] = []
        self.members: dict[int, tuple[int, WatchPort]] = {}
        self.one_shot: p4r.ActionProfileActionSet | None = None

    def pick(self, number: int) -> Member:
        live = self.live
        return live[number % len(live)] if live else NO_MEMBER

    def refresh(self, down: set[int]) -> None:
        """Recompute `live` from the handles in order and the ports that are down."""
        self.slots.sort(key=lambda s: s[0])
        self.live = [m for _, m, port in self.slots if port is None or port not in down]


class ProfileStore(Named):
    """P4Runtime's view of one action profile or selector."""

    word = "action profile"

    def __init__(self, info: p4i.ActionProfile, down: set[int]) -> None:
        super().__init__(info.preamble)
        self.size = int(info.size)
        self.max_group_size = int(info.max_group_size)
        self.with_selector = info.with_selector
        self.down = down
        self.members: dict[int, Member] = {}
        self.groups: dict[int, SelectorGroup] = {}
        self.one_shots: list[SelectorGroup] = []
        self._next = 0
        self._free: list[int] = []

    # ----------------------------------------------------------------- handles

    def _take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def _give(self, handle: int) -> None:
        heapq.heappush(self._free, handle)

    def _fit_handles(self, member: Member) -> None:
        """As many handles as the largest weight needs, at least one."""
        want = max([1, *member.groups.values()])
        while len(member.handles) > want:
            self._give(member.handles.pop())

    # ------------------------------------------------------------------- modes

    def claim(self, mode: str) -> None:
        """A profile is programmed in one way at a time."""
        manual = bool(self.members or self.groups)
        if (mode is ONE_SHOT and manual) or (mode is MANUAL and self.one_shots):
            used = MANUAL if manual else ONE_SHOT
            raise self.invalid(
                f"it is programmed with {used}; {mode} cannot be mixed in before those are deleted"
            )

    def full(self, more: int) -> None:
        count = len(self.members) + sum(len(g.slots) for g in self.one_shots)
        if self.size and count + more > self.size:
            raise self.error(
                rpc_code.RESOURCE_EXHAUSTED, f"it is full: {count} of {self.size} members"
            )

    # ----------------------------------------------------------------- members

    def member(self, ident: int, code: int = rpc_code.NOT_FOUND) -> Member:
        member = self.members.get(ident)
        if member is None:
            members = listed(str(i) for i in sorted(self.members)[:20])
            raise self.error(code, f"member {ident} does not exist (existing: {members})")
        return member

    def insert_member(self, ident: int, a: int, args: Args, source: p4r.Action) -> None:
        self.claim(MANUAL)
        if ident in self.members:
            raise self.error(
                rpc_code.ALREADY_EXISTS,
                f"member {ident} exists; use MODIFY to change its action",
            )
        self.full(1)
        member = Member(ident, a, args)
        member.handles = [self._take()]
        member.source = source
        self.members[ident] = member

    def modify_member(self, ident: int, a: int, args: Args, source: p4r.Action) -> None:
        self.claim(MANUAL)
        member = self.member(ident)
        member.a, member.args, member.source = a, args, source

    def delete_member(self, ident: int) -> None:
        member = self.member(ident)
        if member.refs or member.groups:
            users = f"{member.refs} entries and groups {sorted(member.groups)}"
            raise self.error(
                rpc_code.FAILED_PRECONDITION,
                f"member {ident} is in use by {users}; delete them first",
            )
        for handle in member.handles:
            self._give(handle)
        del self.members[ident]

    # ------------------------------------------------------------------ groups

    def group(self, ident: int, code: int = rpc_code.NOT_FOUND) -> SelectorGroup:
        group = self.groups.get(ident)
        if group is None:
            groups = listed(str(i) for i in sorted(self.groups)[:20])
            raise self.error(code, f"group {ident} does not exist (existing: {groups})")
        return group

    def _membership(
        self, e: p4r.ActionProfileGroup, limit: int
    ) -> dict[int, tuple[int, WatchPort]]:
        """Checked members of a group; nothing is changed yet."""
        what = f"group {e.group_id}"
        out: dict[int, tuple[int, WatchPort]] = {}
        for m in e.members:
            if m.weight <= 0:
                raise self.invalid(
                    f"{what}: member {m.member_id} has weight {m.weight}; it must be 1 or more"
                )
            self.member(m.member_id)
            if m.member_id in out:
                raise self.invalid(
                    f"{what}: member {m.member_id} is given twice; use its weight instead"
                )
            out[m.member_id] = (m.weight, WatchPort.of(m))
        total = sum(weight for weight, _ in out.values())
        if limit and total > limit:
            raise self.error(
                rpc_code.RESOURCE_EXHAUSTED,
                f"{what}: the weights' sum {total} exceeds the maximum group size {limit}",
            )
        return out

    def _set_membership(
        self, group: SelectorGroup, wanted: dict[int, tuple[int, WatchPort]]
    ) -> None:
        touched = sorted({*group.members, *wanted})
        for ident in touched:
            member = self.members[ident]
            if ident in wanted:
                weight = wanted[ident][0]
                while len(member.handles) < weight:
                    member.handles.append(self._take())
                member.groups[group.id] = weight
            else:
                member.groups.pop(group.id, None)
        group.members = wanted
        group.slots = [
            (handle, self.members[ident], watch.port)
            for ident, (weight, watch) in wanted.items()
            for handle in self.members[ident].handles[:weight]
        ]
        group.refresh(self.down)
        for ident in touched:
            self._fit_handles(self.members[ident])

    def insert_group(self, e: p4r.ActionProfileGroup) -> None:
        self.claim(MANUAL)
        if e.group_id in self.groups:
            raise self.error(
                rpc_code.ALREADY_EXISTS,
                f"group {e.group_id} exists; use MODIFY to change its members",
            )
        if e.max_size < 0 or (self.max_group_size and e.max_size > self.max_group_size):
            raise self.invalid(
                f"group {e.group_id}: max_size {e.max_size} is not in 0..{self.max_group_size}"
            )
        wanted = self._membership(e, e.max_size or self.max_group_size)
        group = self.groups[e.group_id] = SelectorGroup(e.group_id, e.max_size)
        self._set_membership(group, wanted)

    def modify_group(self, e: p4r.ActionProfileGroup) -> None:
        group = self.group(e.group_id)
        if e.max_size and e.max_size != group.max_size:
            raise self.invalid(
                f"group {e.group_id}: max_size is {group.max_size} since the group was made "
                f"and cannot become {e.max_size}"
            )
        wanted = self._membership(e, group.max_size or self.max_group_size)
        self._set_membership(group, wanted)

    def delete_group(self, ident: int) -> None:
        group = self.group(ident)
        if group.refs:
            raise self.error(
                rpc_code.FAILED_PRECONDITION,
                f"group {ident} is in use by {group.refs} entries; delete them first",
            )
        self._set_membership(group, {})
        del self.groups[ident]

    # ---------------------------------------------------------------- one-shot

    def check_action_set(self, actions: p4r.ActionProfileActionSet) -> None:
        """What does not depend on the profile's state."""
        if not actions.action_profile_actions:
            raise self.error(
                rpc_code.UNIMPLEMENTED, "an empty action set is not supported; give one action"
            )
        total = 0
        for each in actions.action_profile_actions:
            if each.weight <= 0:
                raise self.invalid(
                    f"an action of the set has weight {each.weight}; it must be 1 or more"
                )
            total += each.weight
        if self.max_group_size and total > self.max_group_size:
            raise self.error(
                rpc_code.RESOURCE_EXHAUSTED,
                f"the weights' sum {total} exceeds the maximum group size {self.max_group_size}",
            )

    def one_shot(
        self, actions: p4r.ActionProfileActionSet, decoded: Iterable[tuple[int, Args]]
    ) -> SelectorGroup:
        """A group of its own for one entry."""
        self.claim(ONE_SHOT)
        self.full(sum(a.weight for a in actions.action_profile_actions))
        group = SelectorGroup(0)
        group.one_shot = actions
        for each, (a, args) in zip(actions.action_profile_actions, decoded, strict=True):
            watch = WatchPort.of(each)
            for _ in range(each.weight):
                group.slots.append((self._take(), Member(0, a, args), watch.port))
        group.refresh(self.down)
        self.one_shots.append(group)
        return group

    # -------------------------------------------------------------- references

    def take(self, target: Member | SelectorGroup) -> None:
        target.refs += 1

    def drop(self, target: Member | SelectorGroup) -> None:
        """An entry no longer refers to `target`; a one-shot group goes with its entry."""
        target.refs -= 1
        if isinstance(target, SelectorGroup) and target.one_shot is not None:
            for handle, _, _ in target.slots:
                self._give(handle)
            self.one_shots.remove(target)

    def port_changed(self) -> None:
        for group in (*self.groups.values(), *self.one_shots):
            group.refresh(self.down)

    # ----------------------------------------------------------------- reading

    def read_member(self, member: Member) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.action_profile_member
        out.action_profile_id, out.member_id = self.id, member.id
        if member.source is not None:
            out.action.CopyFrom(member.source)
        return entity

    def read_group(self, group: SelectorGroup) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.action_profile_group
        out.action_profile_id, out.group_id, out.max_size = self.id, group.id, group.max_size
        for ident, (weight, watch) in group.members.items():
            watch.write(out.members.add(member_id=ident, weight=weight))
        return entity
