# Generated from cle.proto by `python -m servernf.proto.generate`. Do not edit.
from collections.abc import Callable, Iterator

import grpc

from servernf.proto import cle_pb2

class CleStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    ship: Callable[..., Iterator[cle_pb2.Receipt]]
    head: Callable[..., cle_pb2.Receipt]

class CleServicer:
    def ship(
        self, request_iterator: Iterator[cle_pb2.Batch], context: grpc.ServicerContext
    ) -> Iterator[cle_pb2.Receipt]: ...
    def head(
        self, request: cle_pb2.HeadRequest, context: grpc.ServicerContext
    ) -> cle_pb2.Receipt: ...

def add_CleServicer_to_server(servicer: CleServicer, server: grpc.Server) -> None: ...
