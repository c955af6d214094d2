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
    Part,
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
from orchestrator.recall import current, recalled
from orchestrator.targets.references import key_role, param_role

_FIRST_EPOCH = 0
_KEY_BYTES = 16
_KEYS = (Lpm, Exact, Ternary, Between)
_OF_ONE_ENTRY = frozenset({ClassRef, TreeRef})
_Params = tuple[tuple[str, int], ...]
_RoleOf = Callable[[str, str], Role | None]


def link(bundle: Bundle, symbolic: Symbolic, beside: Bundle | None = None) -> Bundle:
    """The bundle with a graph's programs and workers in it.

    `beside` is the version that runs: what is the same in both keeps its numbers, what differs gets such
    as that one does not use. CompileError when the numbers of a device do not suffice.
    """
    linker = _Linker(bundle.graph, bundle.graph_id, symbolic.paths)
    linked = replace(
        bundle,
        programs={name: linker.program(name, p) for name, p in symbolic.programs.items()},
        workers=tuple(map(linker.worker, symbolic.workers)),
    )
    return linked if beside is None else share(linked, beside)


class _Linker:
    """Numbers of one version by itself, in the order in which lowering names things."""

    def __init__(self, graph: str, graph_id: int, paths: Iterable[str]) -> None:
        self._graph, self._graph_id = graph, graph_id
        self._spis = {path: self._packed("path", ids.PATH, n) for n, path in enumerate(paths)}
        self._classes = count(1)

    def program(self, device: str, program: SymbolicProgram) -> PipelineProgram:
        """A device's program, with the numbers of its segments and groups."""
        names = self._segments(device, program)
        groups = {
            flood.group: self._packed(f"multicast group of {device}", ids.GROUP, n)
            for n, flood in enumerate(program.floods, 1)
        }
        parts: list[Part] = []
        for section in program.sections:
            own = tuple((name, names[name]) for name in section.segments)
            parts += _section_parts(section, device, own)
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
        return WorkerProgram(worker.server, worker.core, worker.nfs, tuple(chains))

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

    def _packed(self, what: str, layout: ids.Layout, number: int) -> int:
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
        known = self._known.get((action, id(params)))
        if known is not None:
            return known[1]
        found = tuple(
            [
                (name, v if isinstance(v, int) else self._number(v, param_role, action, name))
                for name, v in params
            ]
        )
        if type(params[-1][1]) not in _OF_ONE_ENTRY:
            self._known[action, id(params)] = params, found
        return found

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


@recalled
def _section_parts(
    section: Section, device: str, numbers: tuple[tuple[SegmentRef, int], ...]
) -> Sequence[Part]:
    """The parts of a section on a device; those that an earlier version had are the same objects."""
    names = dict(numbers)
    resolver, alone = _Resolver(names), len(section.parts) == 1

    def node_of(ref: SegmentRef | TreeRef) -> Node:
        if isinstance(ref, TreeRef):
            return tree_node(device, names[ref.segment], ref.node)
        return Node(SEGMENT, device, names[ref])

    def part(symbolic: SymbolicPart) -> Part:
        own, entries = symbolic
        if isinstance(entries, Unmade):
            refs = tuple(sorted({node_of(ref) for ref in entries.named} - {node_of(own)}))
            return Part(node_of(own), _unmade(entries, numbers), refs)
        doings = {id(entry.params): entry.params for entry in entries}
        refs = {value for params in doings.values() for _, value in params}
        nodes = {node_of(ref) for ref in refs if isinstance(ref, SegmentRef | TreeRef)}
        node = node_of(own)
        linked = _entries(entries, numbers) if alone else tuple(map(resolver.entry, entries))
        return Part(node, linked, tuple(sorted(nodes - {node})))

    return current().each((_section_parts, device, numbers), section.parts, part)


@recalled
def _unmade(entries: Unmade, numbers: tuple[tuple[SegmentRef, int], ...]) -> LazyEntries:
    """Likewise."""

    def made() -> Iterator[TableEntry]:
        return map(_Resolver(dict(numbers)).entry, entries.make())

    key = blake2b(entries.key + repr(numbers).encode(), digest_size=_KEY_BYTES).digest()
    return LazyEntries(made, entries.tables, key)


@recalled
def _entries(
    entries: tuple[SymbolicEntry, ...], numbers: tuple[tuple[SegmentRef, int], ...]
) -> tuple[TableEntry, ...]:
    """They say nothing of their device: where segments have the same numbers they are the same."""
    return tuple(map(_Resolver(dict(numbers)).entry, entries))
