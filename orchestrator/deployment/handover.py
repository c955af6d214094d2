"""A transfer of state between two workers, as the controller has it done (servernf/proto/vnf.proto)."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_bytes

from orchestrator.deployment.drivers import NetworkDriver
from orchestrator.deployment.marking import Use, send_markers
from orchestrator.deployment.moves import StateMove
from orchestrator.deployment.origins import Origin, of_core
from orchestrator.deployment.transaction import MoveState
from orchestrator.errors import ReportedError, ServerError, ServerGone
from servernf.proto import vnf_pb2

NONE, COPYING, READY, IN_DOUBT = "none", "copying", "ready", "in doubt"
DONE, ABORTED = "done", "aborted"
_SECRET_BYTES = 32
MARKERS_S = 0.2
"""So long markers may take; then time has to tell that nothing comes any more."""
_LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transfer came to."""

    move: StateMove
    records: int
    bytes: int
    held: int
    forwarded: int
    waited_us: int
    markers: int = 0
    paths: int = 0
    """By which its packets came; fewer markers: only time has told that none was on its way."""
    lost: str = ""
    """Why it stays behind."""
    from_standby: bool = False
    """Whether the target had it already."""

    def __str__(self) -> str:
        if self.lost:
            return f"{self.move}: stays behind: {self.lost}"
        if self.from_standby:
            return f"{self.move}: its standby takes over, with {self.records:,} records"
        told = f"{self.move}: {self.records:,} records; {self.held:,} packets waited"
        told += f" {self.waited_us / 1000:.1f} ms" if self.held else ""
        if 0 < self.paths == self.markers:
            return told
        missing = f" ({self.markers} of {self.paths} markers came)" if self.paths else ""
        return f"{told}; drained by time{missing}"


@dataclass(frozen=True, slots=True)
class Handover:
    """The phases of one; each may be repeated."""

    network: NetworkDriver
    move: StateMove
    origins: tuple[Origin, ...] = ()
    """Of the packets that come to the source; none: nobody can send markers behind them."""

    def begin(self) -> None:
        """Copy; the target holds back what comes to it from now on."""
        request = self._request(vnf_pb2.TransferRequest.BEGIN)
        # To what is under way nobody is announced anew: its source knows its secret, and we do not.
        if self.state() not in (COPYING, READY):
            self._announce(request)
        state = self._send(request).state
        while state == COPYING:  # for another controller, which may be gone
            self.network.pause(_LOOK_S)
            state = self.state()
        if state in (NONE, ABORTED):
            raise ServerError(f"{self.move}: another controller began it, and it came to nothing")

    def finish(self) -> Moved:
        """Send the rest; the target goes on. ServerGone: it has ended, and the source has everything."""
        told = self._ask(vnf_pb2.TransferRequest.FINISH)
        if told.state == ABORTED:
            raise self.without_target()
        return Moved(
            self.move,
            told.records,
            told.bytes,
            told.held,
            told.forwarded,
            told.waited_us,
            told.markers,
            len(self._paths()),
        )

    def finish_behind_markers(self, use: Use) -> None:
        """Finish once a marker has come behind the last packet of each path; nothing without one."""
        told = self._ask(vnf_pb2.TransferRequest.STATUS)
        paths, network = self._paths(), self.network
        if told.state != READY or not paths:
            return
        if not send_markers(use, network.topology, self.move.source.server, told.marker, paths):
            return
        looked = 0.0
        while told.markers < len(paths):
            if looked >= MARKERS_S:
                return
            network.pause(_LOOK_S)
            looked += _LOOK_S
            told = self._ask(vnf_pb2.TransferRequest.STATUS)
        self.finish()

    def _paths(self) -> tuple[Origin, ...]:
        return of_core(self.origins, self.network.topology, self.move.source)

    def abort(self) -> None:
        """The source goes on; nothing where nothing is under way."""
        self._ask(vnf_pb2.TransferRequest.ABORT)

    def without_target(self) -> ServerGone:
        """Why state is where it was."""
        return ServerGone(f"{self.move}: {self.move.target} has ended; its state is where it was")

    def without_source(self) -> ServerGone:
        """Why there is no more of it than has come to the target."""
        move = self.move
        return ServerGone(
            f"{move}: {move.source} has ended, and was started anew; what had come to {move.target}"
            " stays there"
        )

    def end_without_source(self, *, adopting: bool) -> str:
        """The source has ended: the target owns what has come to it (`adopting`), or forgets it; how far
        it is there."""
        phases = vnf_pb2.TransferRequest
        request = self._request(phases.ADOPT if adopting else phases.ABORT)
        with self.network.worker(self.move.target) as target:
            return target.transfer(request).state

    def state(self) -> str:
        """How far it is."""
        return self._ask(vnf_pb2.TransferRequest.STATUS).state

    def _ask(self, phase: vnf_pb2.TransferRequest.Phase) -> vnf_pb2.TransferResponse:
        return self._send(self._request(phase))

    def _request(self, phase: vnf_pb2.TransferRequest.Phase) -> vnf_pb2.TransferRequest:
        move = self.move
        variant = "order_preserving" if self.origins else "loss_free"
        request = vnf_pb2.TransferRequest(phase=phase, id=move.id, variant=variant)
        request.nfs.extend(f"{move.graph}/{nf}" for nf in move.nfs)
        request.scope.CopyFrom(move.scope.message())
        return request

    def _send(self, request: vnf_pb2.TransferRequest) -> vnf_pb2.TransferResponse:
        with self.network.worker(self.move.source) as source:
            return source.transfer(request)

    def _announce(self, request: vnf_pb2.TransferRequest) -> None:
        """Have the target take what this source, and nobody else, brings."""
        request.secret = token_bytes(_SECRET_BYTES)
        expected = vnf_pb2.ExpectStateRequest(
            id=request.id, secret=request.secret, nfs=request.nfs, scope=request.scope
        )
        with self.network.worker(self.move.source) as source:
            expected.source = source.status().certified
        with self.network.worker(self.move.target) as target:
            request.destination_name = target.certified
            request.destination = target.expect_state(expected)


def source_is_gone(network: NetworkDriver, move: StateMove, *, has_begun: bool) -> bool:
    """Whether the worker that state leaves has ended. Where that `has_begun`, one that knows nothing of
    it is another process, in its place."""
    try:
        return Handover(network, move).state() == NONE and has_begun
    except ServerGone:
        return True
    except ReportedError:
        return False


def carry_out(network: NetworkDriver, step: MoveState, quiet_s: float, use: Use) -> list[Moved]:
    """Carry a phase out, or back; what has moved. `quiet_s` is how long packets may be on their way.

    Controllers say only what goes where; workers that do not answer raise ServerError.
    """
    try:
        return _carried_out(network, step, quiet_s, use)
    except ServerGone:
        if source_is_gone(network, step.move, has_begun=not step.begins):
            end_without_source(network, step)
        raise


def end_without_source(network: NetworkDriver, step: MoveState) -> str:
    """The last phase where the source has ended: what has come to the target stays there, or, on the way
    back, is forgotten; how far it is there, "none" in other phases."""
    if step.is_early or step.begins:
        return NONE
    return Handover(network, step.move).end_without_source(adopting=not step.undoing)


def _carried_out(network: NetworkDriver, step: MoveState, quiet_s: float, use: Use) -> list[Moved]:
    there = Handover(network, step.move, step.origins)
    back = Handover(network, step.move.reversed())
    if step.begins:
        if not step.undoing:
            there.begin()
        elif there.state() == DONE:
            back.begin()
        return []
    if step.is_early:
        there.finish_behind_markers(use)
        return []
    ending, state = there, there.state()
    if not step.undoing and state == ABORTED:
        raise there.without_target()
    if not step.undoing and state == NONE:
        if end_without_source(network, step) == DONE:
            raise there.without_source()
        return []  # it has not begun, as was said then
    if step.undoing:
        try:
            returns = back.state() == READY
        except ServerGone:  # what had come to it is at the source, too, unless it was handed over
            there.abort()
            raise
        if not returns:
            there.abort()
            if state == NONE:
                end_without_source(network, step)
            return []
        ending = back
    if not step.is_quiet and (step.undoing or state != DONE):
        network.pause(quiet_s)
    return [ending.finish()]
