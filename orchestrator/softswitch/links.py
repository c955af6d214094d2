"""Which links of a device are up: selectors pass over members whose watch port is down."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def link_states(interfaces: Mapping[int, str]) -> Callable[[], dict[int, bool]]:
    """A function that says which ports' links are up (as Linux sees the carrier)."""

    def up(name: str) -> bool:
        try:
            with open(f"/sys/class/net/{name}/carrier") as f:
                return f.read(1) == "1"
        except OSError:
            return False

    return lambda: {number: up(name) for number, name in interfaces.items()}
