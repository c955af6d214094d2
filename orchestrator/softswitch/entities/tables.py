"""Table entries of all tables."""

from __future__ import annotations

from collections.abc import Iterator

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.base import ById, Entities, Operation
from orchestrator.softswitch.entities.special_entries import SpecialEntries
from orchestrator.softswitch.entities.table_entries import TableEntries
from orchestrator.softswitch.entity_errors import EntityError, suggest
from orchestrator.softswitch.state.pipeline import PipelineState
from orchestrator.softswitch.state.profiles import ProfileStore
from orchestrator.softswitch.state.tables import MatchTable, Rich, StoredEntry


class TablesById(ById[TableEntries]):
    """p4c leaves out of the JSON what no packet reaches; P4Info still has it."""

    def __init__(self) -> None:
        super().__init__("table", ())
        self.unreachable: dict[int, str] = {}

    def __missing__(self, ident: int) -> TableEntries:
        if ident in self.unreachable:
            raise EntityError(
                rpc_code.UNIMPLEMENTED,
                f"table {self.unreachable[ident]}: no packet reaches it, so p4c left it out",
            )
        return super().__missing__(ident)


class TableEntities(Entities[p4r.TableEntry, TableEntries, StoredEntry]):
    def __init__(
        self,
        p4info: p4i.P4Info,
        state: PipelineState,
        profiles: ById[ProfileStore],
        problems: list[str],
    ) -> None:
        self.by_id = TablesById()
        self.touched: set[MatchTable] = set()
        programs = {t.name: t for t in state.program.tables()}
        profile_of = {p.name: p for p in profiles.values()}
        for info in p4info.tables:
            name = info.preamble.name
            if name not in programs:
                self.by_id.unreachable[info.preamble.id] = name
                if info.match_fields:
                    close = suggest(name, programs)
                    problems.append(f"table {name} is not in the BMv2 JSON{close}")
                continue
            program = programs[name]
            about = (info, p4info, program, state.tables[name], self.touched)
            if program.rich or program.profile is not None:
                profile = profile_of.get(program.profile or "")
                self.by_id[info.preamble.id] = SpecialEntries(*about, profile, state)
            else:
                self.by_id[info.preamble.id] = TableEntries(*about)
        problems.extend(
            f"action profile {t.program.profile} of table {t.name} is not in P4Info"
            for t in self.by_id.values()
            if t.program.profile is not None and t.profile is None
        )

    def users(self) -> dict[int, SpecialEntries]:
        """By a profile's id, the (last) table that uses it."""
        return {
            t.profile.id: t
            for t in self.by_id.values()
            if isinstance(t, SpecialEntries) and t.profile is not None
        }

    def commit(self) -> None:
        """Publish what a batch changed."""
        for table in self.touched:
            table.commit()
        self.touched.clear()

    def decode(self, kind: int, e: p4r.TableEntry) -> Operation:
        return self.by_id[e.table_id].decode(kind, e)

    def chosen(self, e: p4r.TableEntry) -> list[TableEntries]:
        tables = self.by_id.chosen(e.table_id)
        if e.HasField("time_since_last_hit"):
            for table in tables:
                if not table.ages or e.is_default_action:
                    raise table.invalid(
                        "it does not support idle timeouts: time_since_last_hit must not be set"
                    )
        if e.match and not e.table_id:
            raise EntityError(rpc_code.INVALID_ARGUMENT, "a match needs a table id")
        return tables

    def select(self, of: TableEntries, e: p4r.TableEntry) -> list[StoredEntry]:
        return of.select(e)

    def encode(self, of: TableEntries, item: StoredEntry, e: p4r.TableEntry) -> p4r.Entity:
        return of.encode(item, e)

    def timed_out(self, now: int) -> Iterator[p4r.TableEntry]:
        """Entries whose idle timeout has passed and of which nobody was told yet."""
        for table in self.by_id.values():
            if not table.ages:
                continue
            for entry in table.table:
                assert isinstance(entry, Rich)
                if not entry.ttl_ns or entry.told == entry.ts:
                    continue
                if (now - entry.ts) * 1000 >= entry.ttl_ns:
                    entry.told = entry.ts
                    out = table.encode(entry).table_entry
                    out.ClearField("action")
                    yield out
