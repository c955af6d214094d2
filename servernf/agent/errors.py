"""What the agent cannot do, beside input that is wrong (`InputError`)."""

from __future__ import annotations

from servernf.wire.errors import ServerError


class NoSuchWorker(ServerError):
    """There is no such worker."""


class WorkerExists(ServerError):
    """Another worker has the name, the core, the MAC or the interface."""


class DoesNotStart(ServerError):
    """A worker that ended, or could not be made, before it was ready."""
