"""The oracle: the unsplit graph run NF by NF, packets that matter, and equality modulo relations."""

from orchestrator.oracle.comparison import Comparator
from orchestrator.oracle.driver import Driver, NamedConversation, PacketDifference
from orchestrator.oracle.network import Delivery, ReferenceNetwork, WayStep
from orchestrator.oracle.packets import corner_scenarios, odd_scenarios, random_scenarios
from orchestrator.oracle.scenarios import campaign

__all__ = [
    "Comparator",
    "Delivery",
    "Driver",
    "NamedConversation",
    "PacketDifference",
    "ReferenceNetwork",
    "WayStep",
    "campaign",
    "corner_scenarios",
    "odd_scenarios",
    "random_scenarios",
]
