"""Which packets of a batch a witness watches, asked of all of them alike."""

from __future__ import annotations

from servernf.wire import sampling
from servernf.wire.witness import Witness


class WitnessQuestions:
    """What a witness watches of a graph's packets; made once, asked for every batch."""

    __slots__ = ("_places", "graph", "headers")

    def __init__(self, graph: str, witness: Witness) -> None:
        self.graph, self.headers = graph, witness.headers
        self._places = [
            (epoch.number, sampling.places(epoch.key0, epoch.key1, below, of))
            for epoch in reversed(witness.epochs)
            for of, below in ((sampling.PACKET, epoch.threshold), (sampling.FLOW, epoch.flows))
            if below
        ]

    def of(self, contexts: bytes) -> dict[int, int]:
        """The earliest epoch by which packets are watched, by their places among these."""
        epochs: dict[int, int] = {}
        for epoch, places in self._places:
            for at in places(contexts):
                epochs[at] = epoch
        return epochs
