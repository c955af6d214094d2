"""Standbys of a deployed graph, as the controller has them follow and take over.

The controller says who follows whom (`servernf/proto/vnf.proto`, replicate); records go from worker to
worker. Where a standby takes over is decided by placement (`placement.running.taken_over`).
"""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_bytes

from orchestrator.deployment.drivers import NetworkDriver
from orchestrator.deployment.handover import Moved, Use, carry_out, end_without_source
from orchestrator.deployment.standbys import Following
from orchestrator.deployment.transaction import Follow, MoveState
from orchestrator.errors import ReportedError, ServerError, ServerGone
from orchestrator.model.away import Away
from servernf.proto import vnf_pb2

FOLLOWING, PROMOTED = "following", "promoted"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class StateReplication:
    """What a controller has the two workers of a following do; all of it may be repeated."""

    network: NetworkDriver
    following: Following

    def start(self) -> None:
        """Have the standby know what is there, and what changes from now on."""
        request = self._request(vnf_pb2.ReplicateRequest.START)
        # To one that goes on nobody is announced anew: its primary knows its secret, and we do not.
        with self.network.worker(self.following.source) as source:
            there = source.replicate(self._request(vnf_pb2.ReplicateRequest.STATUS))
            if there.state == FOLLOWING:
                return
            request.secret = token_bytes(_SECRET_BYTES)
            expected = vnf_pb2.ExpectStateRequest(
                id=request.id,
                secret=request.secret,
                source=source.status().certified,
                nfs=request.nfs,
                scope=request.scope,
            )
            with self.network.worker(self.following.standby) as standby:
                request.destination_name = standby.certified
                request.destination = standby.expect_state(expected)
            source.replicate(request)

    def stop(self) -> None:
        """Have the primary go on alone."""
        with self.network.worker(self.following.source) as source:
            source.replicate(self._request(vnf_pb2.ReplicateRequest.STOP))

    def _request(self, phase: vnf_pb2.ReplicateRequest.Phase) -> vnf_pb2.ReplicateRequest:
        following = self.following
        request = vnf_pb2.ReplicateRequest(phase=phase, id=following.id, variant=following.variant)
        request.nfs.append(f"{following.graph}/{following.nf}")
        request.scope.CopyFrom(following.scope.message())
        return request


def follow(network: NetworkDriver, step: Follow) -> tuple[str, ...]:
    """Have a standby follow, or no longer; why it does not, which is no reason to undo a change."""
    replication = StateReplication(network, step.following)
    try:
        if step.starts:
            replication.start()
        else:
            replication.stop()
    except ReportedError as error:
        return (f"{step.following}: {error}",)
    return ()


def moved(
    network: NetworkDriver, step: MoveState, away: Away, quiet_s: float, use: Use
) -> list[Moved]:
    """Have state handed over (`carry_out`), or its standby take over when its owner is away."""
    if step.move.source in away.cores and step.standbys:
        return take_over(network, step)
    if step.move.source in away.cores:
        end_without_source(network, step)
        return []
    return carry_out(network, step, quiet_s, use)


def take_over(network: NetworkDriver, step: MoveState) -> list[Moved]:
    """Have the standby of a core that does not answer own what it has followed; what that comes to."""
    if step.undoing or not step.begins:
        return []  # what a standby owns stays its own: nobody else has it
    records, problems = 0, list[str]()
    with network.worker(step.move.target) as standby:
        for name in step.standbys:
            phase = vnf_pb2.ReplicateRequest.PROMOTE
            try:
                told = standby.replicate(vnf_pb2.ReplicateRequest(phase=phase, id=name))
            except ServerGone:
                raise
            except ServerError as error:
                problems.append(str(error))
                continue
            records += told.records
            if told.left_out:
                problems.append(f"{told.left_out} records did not fit together: {told.why}")
    lost = "; ".join(problems)
    return [Moved(step.move, records, 0, 0, 0, 0, lost=lost, from_standby=True)]


def state_of(network: NetworkDriver, following: Following) -> str:
    """How it goes, as its primary tells it; "": it does not answer."""
    try:
        with network.worker(following.source) as source:
            told = source.status().replications.get(following.id)
    except ServerError:
        return ""
    if told is None:
        return "none"
    return told.state + (f": {told.why}" if told.why else "")
