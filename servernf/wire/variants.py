"""Names of the variants in which state moves and is doubled (vnf.proto, getVariants)."""

from __future__ import annotations

from typing import Final

ORDER_PRESERVING: Final = "order_preserving"
LOSS_FREE: Final = "loss_free"
FORWARD: Final = "forward"
STOP_COPY: Final = "stop_copy"
PER_PACKET: Final = "per_packet"
PER_N: Final = "per_n"
ON_SYN_FIN: Final = "on_syn_fin"
PERIODIC: Final = "periodic"
STANDBY: Final = (PER_PACKET, ON_SYN_FIN, PER_N, PERIODIC)
"""Those of a standby, what keeps most first."""
