"""A client of etcd v3 (gRPC): ranges, transactions and leases, over the first endpoint that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from orchestrator.clients import etcd_pb2 as pb
from orchestrator.clients.channel import TlsFiles, connection_problem, open_channel
from orchestrator.errors import StoreError

_CALL_SECONDS = 5.0
Condition = pb.Compare
Operation = pb.RequestOp
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value; `created` is the store's revision that created it."""

    key: str
    value: bytes
    created: int


class EtcdClient:
    """A session with an etcd cluster; StoreError names the endpoint and what it said."""

    def __init__(self, endpoints: tuple[str, ...], tls: TlsFiles | None = None) -> None:
        self.endpoints = endpoints
        self._tls = tls
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channels = [open_channel(endpoint, tls, options) for endpoint in endpoints]
        self._at = 0

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            channel.close()

    # -- keys ----------------------------------------------------------------------------------

    def get(self, key: str) -> KeyValue | None:
        """One key."""
        request = pb.RangeRequest(key=key.encode())
        return next(map(_pair, self._unary("KV/Range", request, pb.RangeResponse).kvs), None)

    def range(self, prefix: str, revision: int = 0) -> tuple[list[KeyValue], int]:
        """All keys with a prefix, in order, and the revision that they are of (0: the last one)."""
        request = pb.RangeRequest(key=prefix.encode(), range_end=_after(prefix), revision=revision)
        answer = self._unary("KV/Range", request, pb.RangeResponse)
        return [_pair(pair) for pair in answer.kvs], answer.header.revision

    def put(self, key: str, value: bytes) -> None:
        """Write a key without a condition."""
        self._unary("KV/Put", pb.PutRequest(key=key.encode(), value=value), pb.PutResponse)

    def transact(self, conditions: Iterable[Condition], *operations: Operation) -> bool:
        """Do all the operations if all conditions hold; whether they did."""
        request = pb.TxnRequest(compare=conditions, success=operations)
        return self._unary("KV/Txn", request, pb.TxnResponse).succeeded

    # -- leases --------------------------------------------------------------------------------

    def grant(self, seconds: int) -> int:
        """A lease: what is put under it is gone when it is not renewed for so long."""
        request = pb.LeaseGrantRequest(TTL=seconds)
        return self._unary("Lease/LeaseGrant", request, pb.LeaseGrantResponse).ID

    def renew(self, lease: int) -> bool:
        """Renew a lease; false when it has expired."""

        def renewed(channel: grpc.Channel) -> bool:
            call = channel.stream_stream(
                "/etcdserverpb.Lease/LeaseKeepAlive",
                request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
                response_deserializer=pb.LeaseKeepAliveResponse.FromString,
            )
            stream = call(iter([pb.LeaseKeepAliveRequest(ID=lease)]), timeout=_CALL_SECONDS)
            return any(answer.TTL > 0 for answer in stream)

        return self._try(renewed)

    def revoke(self, lease: int) -> None:
        """Give a lease back, and all keys under it."""
        request = pb.LeaseRevokeRequest(ID=lease)
        self._unary("Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)

    # -- calls ---------------------------------------------------------------------------------

    def _unary(self, method: str, request: Any, answer: type[_Answer]) -> _Answer:
        def call(channel: grpc.Channel) -> _Answer:
            return channel.unary_unary(
                f"/etcdserverpb.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,  # type: ignore[attr-defined]
            )(request, timeout=_CALL_SECONDS)

        return self._try(call)

    def _try(self, call: Callable[[grpc.Channel], _Answer]) -> _Answer:
        """Call the endpoint that answered last; when it is unavailable, the others in turn.

        A call that broke off may have been carried out: transactions of ours carry conditions that
        make their repetition fail, or do the same again.
        """
        problems: list[str] = []
        for _ in self.endpoints:
            endpoint = self.endpoints[self._at]
            try:
                return call(self._channels[self._at])
            except grpc.RpcError as error:
                code = error.code()  # type: ignore[attr-defined]
                told = f"{code.name}: {error.details()}"  # type: ignore[attr-defined]
                if code is grpc.StatusCode.UNAVAILABLE:
                    told = connection_problem(endpoint, self._tls) or told
                problems.append(told if endpoint in told else f"{endpoint}: {told}")
                if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    break
                self._at = (self._at + 1) % len(self.endpoints)
        raise StoreError(f"etcd: {'; '.join(problems)}")


def _pair(pair: pb.KeyValue) -> KeyValue:
    return KeyValue(pair.key.decode(), pair.value, pair.create_revision)


def created_at(key: str, revision: int) -> Condition:
    """The condition that a key was created at a revision; 0: that there is none."""
    return pb.Compare(
        result=pb.Compare.EQUAL,
        target=pb.Compare.CREATE,
        key=key.encode(),
        create_revision=revision,
    )


def put(key: str, value: bytes, lease: int = 0) -> Operation:
    """Write a key, under a lease if one is given."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value, lease=lease))


def delete(key: str) -> Operation:
    """Delete a key."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key.encode()))


def delete_all(prefix: str, before: str = "") -> Operation:
    """Delete all keys with a prefix, or those of them that sort before a key."""
    request = pb.DeleteRangeRequest(
        key=prefix.encode(), range_end=before.encode() or _after(prefix)
    )
    return pb.RequestOp(request_delete_range=request)


def _after(prefix: str) -> bytes:
    """The first key behind all those with a prefix."""
    encoded = prefix.encode()
    return encoded[:-1] + bytes([encoded[-1] + 1])
