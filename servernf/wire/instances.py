"""Names of NF instances: `fw~2` is the instance of `fw` with its second configuration.

Instances of one NF are side by side on a worker while an update drains (docs/decisions/0023).
"""

from __future__ import annotations


def base_name(instance: str) -> str:
    """The NF of an instance; `GRAPH/fw` for `GRAPH/fw~2`."""
    return instance.partition("~")[0]
