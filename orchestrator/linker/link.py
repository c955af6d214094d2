"""Link a graph: every reference becomes a number, those of a version that runs where nothing differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import count

from orchestrator.errors import CompileError
from orchestrator.linker.epochs import epoch_entry
from orchestrator.linker.nodes import parts_of
from orchestrator.linker.sharing import share
from orchestrator.memo import Memo
from orchestrator.model import ids
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    Between,
    ChainHop,
    Entries,
    Exact,
    FloodGroup,
    LazyEntries,
    Lpm,
    NodePart,
    PipelineProgram,
    ServerChain,
    TableEntry,
    Ternary,
    WorkerProgram,
)
from orchestrator.model.refs import (
    SEGMENT,
    ClassRef,
    GroupRef,
    Node,
    PathRef,
    Ref,
    Role,
    RootRef,
    SegmentRef,
    TreeRef,
    tree_node,
)
from orchestrator.model.symbolic import (
    Section,
    Symbolic,
    SymbolicEntry,
    SymbolicPart,
    SymbolicProgram,
    SymbolicWorker,
    Unmade,
)
from orchestrator.targets.references import key_role, param_role

_FIRST_EPOCH = 0
_KEY_BYTES = 16
_KEYS = (Lpm, Exact, Ternary, Between)
_OF_ONE_ENTRY = frozenset({ClassRef, TreeRef})
_Params = tuple[tuple[str, int], ...]
_RoleOf = Callable[[str, str], Role | None]


def link(
    bundle: Bundle, symbolic: Symbolic, beside: Bundle | None = None, memo: Memo | None = None
) -> Bundle:
    """The bundle with a graph's programs and workers in it.

    `beside` is the version that runs: what is the same in both keeps its numbers, what differs gets such
    as that one does not use. CompileError when the numbers of a device do not suffice.
    """
    memo = Memo() if memo is None else memo
    linker = _Linker(bundle.graph, bundle.graph_id, symbolic.paths, memo)
    linked = replace(
        bundle,
        programs={name: linker.program(name, p) for name, p in symbolic.programs.items()},
        workers=tuple(map(linker.worker, symbolic.workers)),
    )
    return linked if beside is None else share(linked, beside, memo)


class _Linker:
    """Numbers of one version by itself, in the order in which lowering names things."""

    def __init__(self, graph: str, graph_id: int, paths: Iterable[str], memo: Memo) -> None:
        self._graph, self._graph_id, self._memo = graph, graph_id, memo
        self._spis = {path: self._packed("path", ids.PATH, n) for n, path in enumerate(paths)}
        self._classes = count(1)

    def program(self, device: str, program: SymbolicProgram) -> PipelineProgram:
        """A device's program, with the numbers of its segments and groups."""
        names = self._segments(device, program)
        groups = {
            flood.group: self._packed(f"multicast group of {device}", ids.GROUP, n)
            for n, flood in enumerate(program.floods, 1)
        }
        parts: list[NodePart] = []
        for section in program.sections:
            own = tuple((name, names[name]) for name in section.segments)
            parts += _section_parts(section, device, own, self._memo)
        resolve = _Resolver(names, groups, self._spis, self._graph_id, self._classes)
        parts += parts_of(device, list(map(resolve.entry, program.entries)))
        return PipelineProgram(
            Entries(parts),
            (epoch_entry(self._graph_id, _FIRST_EPOCH),) if program.admits else (),
            tuple(FloodGroup(groups[f.group], f.ports, f.origin, f.remote) for f in program.floods),
        )

    def worker(self, worker: SymbolicWorker) -> WorkerProgram:
        """A worker's program, with the SPIs of its chains."""
        chains: list[ServerChain] = []
        for chain in worker.chains:
            hops = [ChainHop(nf=nf, port=port) for nf, port in chain.nfs]
            if chain.out is not None:
                path = chain.out.path
                hops.append(ChainHop(mac=chain.out.mac, spi=self._spis[path.path], si=path.si))
            spi, si = self._spis[chain.path.path], chain.path.si
            chains.append(ServerChain(spi, si, tuple(hops), chain.outputs))
        nfs, places = worker.nfs, worker.places
        return WorkerProgram(worker.server, worker.core, nfs, tuple(chains), places)

    def _segments(self, device: str, program: SymbolicProgram) -> dict[SegmentRef, int]:
        """Steps count from below, classes of packets at dispatch from above: nothing is gated there."""
        own = {s: n | (ids.GATED if s.gated else 0) for n, s in enumerate(program.segments, 1)}
        own |= {s: ids.SEGMENT.size - n for n, s in enumerate(program.classes, 1)}
        most = ids.SEGMENT.size - 1 - len(program.classes)
        if len(program.segments) >= ids.GATED or any(own[s] > most for s in program.segments):
            raise CompileError(
                f"{self._graph}: more than {ids.GATED - 1:,} segments on {device}, or too many "
                f"classes of packets beside them"
            )
        return {name: ids.SEGMENT.pack(self._graph_id, number) for name, number in own.items()}

    def _packed(self, what: str, layout: ids.NumberLayout, number: int) -> int:
        if number >= layout.size:
            raise CompileError(f"{self._graph}: no {what} is left: {layout.size - 1:,} are in use")
        return layout.pack(self._graph_id, number)


class _Resolver:
    """Entries with numbers for references. Those of one element share most of their parameters."""

    def __init__(
        self,
        segments: Mapping[SegmentRef, int],
        groups: Mapping[GroupRef, int] | None = None,
        spis: Mapping[str, int] | None = None,
        graph_id: int = 0,
        classes: Iterator[int] | None = None,
    ) -> None:
        self._segments, self._groups, self._spis = segments, groups or {}, spis or {}
        self._graph_id, self._classes = graph_id, classes or count(1)
        self._known: dict[tuple[str, int], tuple[object, _Params]] = {}

    def entry(self, entry: SymbolicEntry) -> TableEntry:
        """The entry with numbers."""
        table, keys, action, params, priority, origin, meter = entry
        given = tuple(
            [
                (
                    name,
                    key
                    if isinstance(key, _KEYS)
                    else Exact(self._number(key, key_role, table, name)),
                )
                for name, key in keys
            ]
        )
        doing = self._doing(action, params) if params else ()
        return TableEntry(table, given, action, doing, priority, origin, meter)

    def _doing(self, action: str, params: tuple[tuple[str, int | Ref], ...]) -> _Params:
        remembered = self._known.get((action, id(params)))
        if remembered is not None:
            return remembered[1]
        resolved = tuple(
            [
                (name, v if isinstance(v, int) else self._number(v, param_role, action, name))
                for name, v in params
            ]
        )
        if type(params[-1][1]) not in _OF_ONE_ENTRY:
            self._known[action, id(params)] = params, resolved
        return resolved

    def _number(self, ref: Ref, role: _RoleOf, where: str, name: str) -> int:
        match ref:
            case SegmentRef():
                return self._segments[ref]
            case TreeRef():
                return ref.node
            case PathRef():
                return self._spis[ref.path] if role(where, name) is Role.PATH else ref.si
            case GroupRef():
                return self._groups[ref]
            case RootRef():
                return self._graph_id if role(where, name) is Role.GRAPH else _FIRST_EPOCH
            case ClassRef():
                return next(self._classes)


def _section_parts(
    section: Section, device: str, numbers: tuple[tuple[SegmentRef, int], ...], memo: Memo
) -> Sequence[NodePart]:
    """The parts of a section on a device; those that an earlier version had are the same objects."""

    def linked(section: Section) -> Sequence[NodePart]:
        part = _Parts(device, numbers, len(section.parts) == 1, memo).part
        return memo.each(("part", device, numbers), section.parts, part)

    return memo.of(("parts", device, numbers), section, linked)


class _Parts:
    """Parts of one section on a device; `alone`: it has but one.

    Entries say nothing of their device: where segments have the same numbers they are the same.
    """

    def __init__(
        self, device: str, numbers: tuple[tuple[SegmentRef, int], ...], alone: bool, memo: Memo
    ) -> None:
        self._device, self._numbers, self._alone, self._memo = device, numbers, alone, memo
        self._names = dict(numbers)
        self._resolver = _Resolver(self._names)

    def part(self, symbolic: SymbolicPart) -> NodePart:
        """A part with numbers."""
        own, entries = symbolic
        node = self._node(own)
        if isinstance(entries, Unmade):
            refs = {self._node(ref) for ref in entries.named} - {node}
            unmade = self._memo.of(("unmade", self._numbers), entries, self._unmade)
            return NodePart(node, unmade, tuple(sorted(refs)))
        doings = {id(entry.params): entry.params for entry in entries}
        named = {value for params in doings.values() for _, value in params}
        nodes = {self._node(ref) for ref in named if isinstance(ref, SegmentRef | TreeRef)}
        if self._alone:
            linked = self._memo.of(("entries", self._numbers), entries, self._entries)
        else:
            linked = self._entries(entries)
        return NodePart(node, linked, tuple(sorted(nodes - {node})))

    def _node(self, ref: SegmentRef | TreeRef) -> Node:
        if isinstance(ref, TreeRef):
            return tree_node(self._device, self._names[ref.segment], ref.node)
        return Node(SEGMENT, self._device, self._names[ref])

    def _entries(self, entries: tuple[SymbolicEntry, ...]) -> tuple[TableEntry, ...]:
        return tuple(map(self._resolver.entry, entries))

    def _unmade(self, entries: Unmade) -> LazyEntries:
        names = self._names  # of this object entries shall hold nothing else: it has the memo

        def made() -> Iterator[TableEntry]:
            return map(_Resolver(names).entry, entries.make())

        key = entries.key + repr(self._numbers).encode()
        return LazyEntries(made, entries.tables, blake2b(key, digest_size=_KEY_BYTES).digest())
