"""Service chaining as the southbound paper has it (section 4.1).

The manager gives the list of hops to the first NF. That NF sets its own classifier and passes the
rest of the list to the next NF: within the worker by going on in the list, on another worker by
calling that worker's serviceChain. Everything is checked before anything changes, and a worker
commits only after those behind it have: a frame never meets a hop that is not ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from servernf.python.network_function import OTHER
from servernf.python.runtime.errors import ChainExists, NotFound, Unreachable
from servernf.python.runtime.tables import Out, Peer, ToNf, WorkerTables, path_text
from servernf.wire.errors import InputError, ReportedError, unknown

MAX_SPI = (1 << 24) - 1
MAX_MAC = (1 << 48) - 1


@dataclass(frozen=True, slots=True)
class ChainScope:
    """Packets with (SPI, SI) that enter the called NF by `in_port` and leave it by `out_port`.

    An empty `in_port`: they come from another NF of this worker. An empty `out_port`: the other
    one of inside and outside.
    """

    spi: int
    si: int
    in_port: str = ""
    out_port: str = ""

    @property
    def path(self) -> int:
        """SPI and SI as one word."""
        return self.spi << 8 | self.si


@dataclass(frozen=True, slots=True)
class NfHop:
    """An NF instance, entered by `port`; `worker` is its API address, empty for the same worker.

    For another worker, `dst_mac`, `spi` and `si` are what the frame then carries (0: that worker's
    MAC, the same SPI, the SI minus one).
    """

    name: str
    port: str
    worker: str = ""
    out_port: str = ""
    dst_mac: int = 0
    spi: int = 0
    si: int = 0


@dataclass(frozen=True, slots=True)
class ExitHop:
    """The chain leaves the servers."""

    dst_mac: int
    spi: int
    si: int


Hop = NfHop | ExitHop


@dataclass(frozen=True, slots=True)
class Chained:
    """What a worker answers: its MAC, and whose classifiers were set, as "WORKER:GRAPH/NF"."""

    mac: int
    nfs: tuple[str, ...]


class ChainPeer(Protocol):
    """A worker as other workers see it."""

    def service_chain(
        self, nf: str, scope: ChainScope, hops: Sequence[Hop], *, update: bool = False
    ) -> Chained: ...


Dial = Callable[[str], ChainPeer]
"""From an API address to the worker behind it."""


def nobody(address: str) -> ChainPeer:
    """The way to others of a worker that has none."""
    raise Unreachable(f"worker {address}: this worker has no way to call others")


@dataclass(slots=True)
class ChainPlan:
    """What a chain changes on this worker, checked but not committed.

    `first` is the called NF's classifier entry; `nfs` those whose classifiers are set.
    """

    first: tuple[str, int, str]
    entries: dict[int, ToNf]
    classifiers: dict[tuple[str, int, str], ToNf | Out]
    nfs: list[str]
    remote: RemoteCall | None = None


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """The rest of the chain, which the next worker sets up; `key` is the classifier before it."""

    key: tuple[str, int, str]
    hop: NfHop
    scope: ChainScope
    rest: tuple[Hop, ...]

    @property
    def peer(self) -> Peer:
        """The NF that is called."""
        return Peer(self.hop.worker, self.hop.name, self.hop.port, self.hop.out_port)

    def out(self, mac: int) -> Out:
        """The next hop that leads there."""
        return Out(self.hop.dst_mac or mac, self.scope.spi, self.scope.si, self.peer)


def plan_chain(
    tables: WorkerTables, nf: str, scope: ChainScope, hops: Sequence[Hop], *, update: bool
) -> ChainPlan:
    """Walk the list as far as this worker goes; raises with all that is wrong."""
    problems: list[str] = []
    if not 0 < scope.spi <= MAX_SPI:
        problems.append(f"scope.spi: must be 1 to {MAX_SPI}, not {scope.spi}")
    if not 0 < scope.si <= 255:
        problems.append(f"scope.si: must be 1 to 255, not {scope.si}")
    if nf not in tables.instances:
        raise NotFound(f"nf: {unknown('NF instance', nf, list(tables.instances))}")
    path = scope.path
    left = _port_left(tables, nf, scope.in_port, scope.out_port, "scope", problems)
    plan = ChainPlan((nf, path, left), {}, {}, [])
    if scope.in_port:
        _check_port(tables, nf, scope.in_port, "scope.in_port", problems)
        plan.entries[path] = ToNf(nf, scope.in_port)
    here = nf
    for index, hop in enumerate(hops):
        where = f"next[{index}]"
        key = (here, path, left)
        if key in plan.classifiers:
            problems.append(f"{where}: {here} is left by {left} twice")
        plan.nfs.append(here)
        if isinstance(hop, ExitHop):
            _check_exit(hop, where, problems)
            plan.classifiers[key] = Out(hop.dst_mac, hop.spi, hop.si)
            if index + 1 < len(hops):
                problems.append(f"{where}: an exit must be the last hop")
            break
        if hop.worker:
            onward = ChainScope(
                hop.spi or scope.spi, hop.si or scope.si - 1, hop.port, hop.out_port
            )
            if not 0 < onward.si <= 255:
                problems.append(f"{where}.si: no SI below {scope.si} is left")
            if not hop.port:
                problems.append(f"{where}.port: is required")
            plan.remote = RemoteCall(key, hop, onward, tuple(hops[index + 1 :]))
            break
        plan.classifiers[key] = ToNf(hop.name, hop.port)
        if hop.name not in tables.instances:
            problems.append(
                f"{where}.name: {unknown('NF instance', hop.name, list(tables.instances))}"
            )
            break
        _check_port(tables, hop.name, hop.port, f"{where}.port", problems)
        left = _port_left(tables, hop.name, hop.port, hop.out_port, where, problems)
        here = hop.name
    else:
        if hops:
            problems.append(f"next[{len(hops) - 1}]: the last hop must be an exit")
        elif not update:
            problems.append("next: must name at least one hop")
    if problems:
        raise InputError(problems)
    _check_existing(tables, plan, update=update)
    return plan


def _port_left(
    tables: WorkerTables, nf: str, in_port: str, out_port: str, where: str, problems: list[str]
) -> str:
    left = out_port or OTHER.get(in_port, "")
    if not left:
        problems.append(f"{where}.out_port: is required when a packet enters by '{in_port}'")
    else:
        _check_port(tables, nf, left, f"{where}.out_port", problems)
    return left


def _check_port(tables: WorkerTables, nf: str, port: str, where: str, problems: list[str]) -> None:
    ports = tables.instances[nf].nf.ports
    if port not in ports:
        problems.append(f"{where}: {unknown('port', port, ports)} of {nf}")


def _check_exit(hop: ExitHop, where: str, problems: list[str]) -> None:
    if not 0 < hop.dst_mac <= MAX_MAC:
        problems.append(f"{where}.dst_mac: must be a 48-bit MAC, not {hop.dst_mac}")
    if not 0 < hop.spi <= MAX_SPI:
        problems.append(f"{where}.spi: must be 1 to {MAX_SPI}, not {hop.spi}")
    if not 0 <= hop.si <= 255:
        problems.append(f"{where}.si: must be 0 to 255, not {hop.si}")


def _check_existing(tables: WorkerTables, plan: ChainPlan, *, update: bool) -> None:
    """serviceChain makes what is not there (or is so already); serviceChainUpdate changes it."""
    nf, path, left = plan.first
    entry = tables.entries.get(path)
    wanted = plan.entries.get(path)
    clashes: list[str] = []
    if entry is not None and wanted is not None and entry != wanted:
        clashes.append(f"{path_text(path)} enters {entry.nf} by port {entry.port} already")
    if update:
        if plan.first not in tables.classifiers and entry is None:
            raise NotFound(f"{nf}: no chain for {path_text(path)} by port {left} to update")
    else:
        wanted_hops: dict[tuple[str, int, str], ToNf | Out | Peer] = {**plan.classifiers}
        if plan.remote is not None:
            wanted_hops[plan.remote.key] = plan.remote.peer
        for key, following in wanted_hops.items():
            existing = tables.classifiers.get(key)
            if isinstance(following, Peer) and isinstance(existing, Out):
                same = existing.peer == following
            else:
                same = existing is None or existing == following
            if not same:
                clashes.append(
                    f"{key[0]}: {path_text(path)} by port {key[2]} leads elsewhere already;"
                    " use serviceChainUpdate"
                )
    if clashes:
        raise ChainExists("\n".join(clashes))


def reachable(tables: WorkerTables, path: int, start: str) -> set[str]:
    """NFs that packets of a path come to from this one (itself included)."""
    reached: set[str] = set()
    todo = [start]
    while todo:
        nf = todo.pop()
        if nf in reached or nf not in tables.instances:
            continue
        reached.add(nf)
        for port in tables.instances[nf].nf.ports:
            following = tables.classifiers.get((nf, path, port))
            if isinstance(following, ToNf):
                todo.append(following.nf)
    return reached


def call_far(
    far: ChainPeer, nf: str, scope: ChainScope, rest: Sequence[Hop], *, update: bool
) -> Chained:
    """Pass the rest of a chain on to another worker."""
    try:
        return far.service_chain(nf, scope, rest, update=update)
    except NotFound:
        if not update:
            raise
        # The updated chain comes to this NF for the first time.
        return far.service_chain(nf, scope, rest)


def tell_abandoned(before: WorkerTables, after: WorkerTables, dial: Dial) -> str:
    """Remove what an update leaves behind on other workers; what one of them has said against it."""
    still = {
        (out.peer, out.spi, out.si)
        for out in after.classifiers.values()
        if isinstance(out, Out) and out.peer is not None
    }
    failed = ""
    for out in before.classifiers.values():
        if not isinstance(out, Out) or out.peer is None or (out.peer, out.spi, out.si) in still:
            continue
        peer = out.peer
        try:
            scope = ChainScope(out.spi, out.si, peer.port, peer.out_port)
            dial(peer.worker).service_chain(peer.nf, scope, (), update=True)
        except ReportedError as error:
            failed = f"removing the old chain at {peer.nf}: {error}"
    return failed
