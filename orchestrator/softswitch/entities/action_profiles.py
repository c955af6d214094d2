"""Action profiles' members and groups as entities; `softswitch.state.profiles` has the profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finsy.proto import p4r

from orchestrator.softswitch.entities.base import DELETE, INSERT, ById, Entities, Operation
from orchestrator.softswitch.entities.special_entries import SpecialEntries
from orchestrator.softswitch.entity_errors import listed
from orchestrator.softswitch.state.profiles import Member, ProfileStore, SelectorGroup


class Members(Entities[p4r.ActionProfileMember, ProfileStore, Member]):
    """`users` has the table whose actions a profile's members are, by the profile's id."""

    def __init__(self, profiles: ById[ProfileStore], users: Mapping[int, SpecialEntries]) -> None:
        self.profiles = profiles
        self.users = users

    def decode(self, kind: int, e: p4r.ActionProfileMember) -> Operation:
        profile = self.profiles[e.action_profile_id]
        if kind == DELETE:
            return profile.delete_member, (e.member_id,)
        table = self.users.get(profile.id)
        if table is None:
            raise profile.invalid("no table uses it")
        if not e.HasField("action"):
            raise profile.invalid(
                f"member {e.member_id} needs an action (valid: {listed(table.actions.names())})"
            )
        number, args = table.decode_member(e.action)
        function = profile.insert_member if kind == INSERT else profile.modify_member
        return function, (e.member_id, number, args, e.action)

    def chosen(self, e: p4r.ActionProfileMember) -> list[ProfileStore]:
        return self.profiles.chosen(e.action_profile_id)

    def select(self, of: ProfileStore, e: p4r.ActionProfileMember) -> list[Member]:
        return [m for m in of.members.values() if e.member_id in (0, m.id)]

    def encode(self, of: ProfileStore, item: Member, e: p4r.ActionProfileMember) -> p4r.Entity:
        return of.read_member(item)

    def read(self, e: p4r.ActionProfileMember) -> Iterator[p4r.Entity]:
        return iter(list(super().read(e)))  # at once: members and groups must fit together


class Groups(Entities[p4r.ActionProfileGroup, ProfileStore, SelectorGroup]):
    def __init__(self, profiles: ById[ProfileStore]) -> None:
        self.profiles = profiles

    def decode(self, kind: int, e: p4r.ActionProfileGroup) -> Operation:
        profile = self.profiles[e.action_profile_id]
        if not profile.with_selector:
            raise profile.invalid("it has no selector, so it has members but no groups")
        if kind == DELETE:
            return profile.delete_group, (e.group_id,)
        return (profile.insert_group if kind == INSERT else profile.modify_group), (e,)

    def chosen(self, e: p4r.ActionProfileGroup) -> list[ProfileStore]:
        return self.profiles.chosen(e.action_profile_id)

    def select(self, of: ProfileStore, e: p4r.ActionProfileGroup) -> list[SelectorGroup]:
        return [g for g in of.groups.values() if e.group_id in (0, g.id)]

    def encode(
        self, of: ProfileStore, item: SelectorGroup, e: p4r.ActionProfileGroup
    ) -> p4r.Entity:
        return of.read_group(item)

    def read(self, e: p4r.ActionProfileGroup) -> Iterator[p4r.Entity]:
        return iter(list(super().read(e)))  # at once: members and groups must fit together
