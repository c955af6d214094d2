"""What a worker answers besides InputError (a request that is wrong in itself)."""

from __future__ import annotations

from servernf.wire.errors import ServerError


class NotFound(ServerError):
    """An NF instance or a chain that is not there."""


class ChainExists(ServerError):
    """A chain that would have to be changed by serviceChainUpdate; state that is owned already."""


class NotSupported(ServerError):
    """What this version does not do."""


class NotPermitted(ServerError):
    """Who calls may not: no controller has said so."""


class Unreachable(ServerError):
    """A further worker of the chain that does not answer."""


class Gone(Unreachable):
    """Nothing listens where a further worker was: it has ended, and its state with it."""
