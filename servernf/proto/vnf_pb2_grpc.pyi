# Generated from vnf.proto by `python -m servernf.proto.generate`. Do not edit.
from collections.abc import Callable, Iterator

import grpc

from servernf.proto import vnf_pb2

class VnfStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    getChainingProtocols: Callable[..., vnf_pb2.ChainingProtocolsResponse]
    serviceChain: Callable[..., vnf_pb2.ServiceChainResponse]
    serviceChainUpdate: Callable[..., vnf_pb2.ServiceChainResponse]
    transfer: Callable[..., vnf_pb2.TransferResponse]
    replicate: Callable[..., vnf_pb2.ReplicateResponse]
    getVariants: Callable[..., vnf_pb2.VariantsResponse]
    markLastInTransit: Callable[..., vnf_pb2.MarkLastInTransitResponse]
    expectState: Callable[..., vnf_pb2.ExpectStateResponse]
    pushState: Callable[..., vnf_pb2.PushStateResponse]
    queryMetrics: Callable[..., vnf_pb2.Metrics]
    reportMetrics: Callable[..., Iterator[vnf_pb2.Metrics]]
    configure: Callable[..., vnf_pb2.ConfigureResponse]
    removeGraph: Callable[..., vnf_pb2.RemoveGraphResponse]
    getStatus: Callable[..., vnf_pb2.Status]
    setWitness: Callable[..., vnf_pb2.WitnessResponse]
    readSamples: Callable[..., vnf_pb2.ReadSamplesResponse]
    watchEvents: Callable[..., Iterator[vnf_pb2.EventBatch]]

class VnfServicer:
    def getChainingProtocols(
        self, request: vnf_pb2.ChainingProtocolsRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ChainingProtocolsResponse: ...
    def serviceChain(
        self, request: vnf_pb2.ServiceChainRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ServiceChainResponse: ...
    def serviceChainUpdate(
        self, request: vnf_pb2.ServiceChainRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ServiceChainResponse: ...
    def transfer(
        self, request: vnf_pb2.TransferRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.TransferResponse: ...
    def replicate(
        self, request: vnf_pb2.ReplicateRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ReplicateResponse: ...
    def getVariants(
        self, request: vnf_pb2.VariantsRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.VariantsResponse: ...
    def markLastInTransit(
        self, request: vnf_pb2.MarkLastInTransitRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.MarkLastInTransitResponse: ...
    def expectState(
        self, request: vnf_pb2.ExpectStateRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ExpectStateResponse: ...
    def pushState(
        self, request: vnf_pb2.PushStateRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.PushStateResponse: ...
    def queryMetrics(
        self, request: vnf_pb2.MetricsRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.Metrics: ...
    def reportMetrics(
        self, request: vnf_pb2.ReportMetricsRequest, context: grpc.ServicerContext
    ) -> Iterator[vnf_pb2.Metrics]: ...
    def configure(
        self, request: vnf_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ConfigureResponse: ...
    def removeGraph(
        self, request: vnf_pb2.RemoveGraphRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.RemoveGraphResponse: ...
    def getStatus(
        self, request: vnf_pb2.StatusRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.Status: ...
    def setWitness(
        self, request: vnf_pb2.WitnessRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.WitnessResponse: ...
    def readSamples(
        self, request: vnf_pb2.ReadSamplesRequest, context: grpc.ServicerContext
    ) -> vnf_pb2.ReadSamplesResponse: ...
    def watchEvents(
        self, request: vnf_pb2.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[vnf_pb2.EventBatch]: ...

def add_VnfServicer_to_server(servicer: VnfServicer, server: grpc.Server) -> None: ...
