"""Reading a JSON configuration: every problem is collected with its place and the remedy."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

from servernf.wire.addresses import parse_ip, parse_mac, parse_network
from servernf.wire.errors import InputError, unknown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parsed(text: str, where: str) -> Mapping[str, object]:
    """The JSON object that a configuration's text is (empty: {}); InputError begins with `where`."""
    try:
        data: object = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: no JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{where}: must be an object, not {_kind(data)}")
    return cast("Mapping[str, object]", data)


class Fields:
    """One JSON object. Getters note a problem and answer the default; `check` raises them all."""

    def __init__(self, where: str, data: object, problems: list[str] | None = None) -> None:
        self.where = where
        self.problems: list[str] = [] if problems is None else problems
        self._known: set[str] = set()
        self._data: Mapping[str, object] = {}
        if isinstance(data, Mapping):
            self._data = cast("Mapping[str, object]", data)
        else:
            self.problem("", f"must be an object, not {_kind(data)}")

    def problem(self, key: str, text: str) -> None:
        """Note what is wrong with `key` ("": the object itself)."""
        self.problems.append(f"{self.where}{'.' if key else ''}{key}: {text}")

    def only_known(self) -> None:
        """Note every key that no getter has asked for."""
        for key in self._data:
            if key not in self._known:
                self.problem(key, unknown("key", key, sorted(self._known)))

    def check(self) -> None:
        """Raise all problems, if there are any."""
        self.only_known()
        if self.problems:
            raise InputError(self.problems)

    def has(self, key: str) -> bool:
        """Whether the key is there (and not null)."""
        self._known.add(key)
        return self._data.get(key) is not None

    def raw(self, key: str) -> object:
        """The value as it is; None when absent."""
        self._known.add(key)
        return self._data.get(key)

    def required(self, key: str) -> bool:
        """As `has`, and its absence is a problem."""
        if self.has(key):
            return True
        self.problem(key, "is required")
        return False

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer from `low` to `high`; required unless there is a default."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.problem(key, f"must be an integer from {low} to {high}, not {value!r}")
        return low if default is None else default

    def seconds(self, key: str, default: float) -> int:
        """A positive number of seconds, answered in microseconds."""
        value = self.raw(key)
        if value is None:
            value = default
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return int(value * 1_000_000)
        self.problem(key, f"must be a positive number of seconds, not {value!r}")
        return int(default * 1_000_000)

    def boolean(self, key: str) -> bool | None:
        """True, false, or None when absent."""
        value = self.raw(key)
        if value is None or isinstance(value, bool):
            return value
        self.problem(key, f"must be true or false, not {value!r}")
        return None

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str:
        """One of `options`; required unless there is a default."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value in options:
            return value
        if isinstance(value, str):
            self.problem(key, unknown("choice", value, options))
        else:
            self.problem(key, f"must be one of {', '.join(options)}, not {value!r}")
        return options[0]

    def text(self, key: str, default: str | None = None) -> str:
        """A non-empty string; required unless there is a default."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value:
            return value
        self.problem(key, f"must be a non-empty string, not {value!r}")
        return default or ""

    def items(self, key: str, *, required: bool = True) -> list[object]:
        """A list."""
        value = self.raw(key)
        if value is None and not required:
            return []
        if isinstance(value, list):
            return cast("list[object]", value)
        self.problem(key, f"must be a list, not {_kind(value)}")
        return []

    def objects(self, key: str, *, required: bool = True) -> list[Fields]:
        """A list of objects; problems of theirs are noted here."""
        return [
            Fields(f"{self.where}.{key}[{index}]", item, self.problems)
            for index, item in enumerate(self.items(key, required=required))
        ]

    def object(self, key: str) -> Fields:
        """An object; empty when absent."""
        value = self.raw(key)
        return Fields(f"{self.where}.{key}", {} if value is None else value, self.problems)

    def mapping(self, key: str) -> Mapping[str, object]:
        """An object whose keys are the user's (not checked); empty when absent."""
        value = self.raw(key)
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return cast("Mapping[str, object]", value)
        self.problem(key, f"must be an object, not {_kind(value)}")
        return {}

    def address(self, key: str) -> Address | None:
        """A required IPv4 or IPv6 address."""
        if not self.required(key):
            return None
        return self.as_address(key, self.raw(key))

    def as_address(self, key: str, value: object) -> Address | None:
        """`value`, which stands at `key`, as an address."""
        with suppress(ValueError):  # told below, as what is no text
            if isinstance(value, str):
                return parse_ip(value)
        self.problem(key, f"must be an IP address, not {value!r}")
        return None

    def prefix(self, key: str) -> Network | None:
        """A prefix ("10.0.0.0/8"), or None when absent."""
        value = self.raw(key)
        if value is None:
            return None
        try:
            if isinstance(value, str):
                return parse_network(value)
        except ValueError as error:
            self.problem(key, f"'{value}' is no prefix: {error}")
            return None
        self.problem(key, f"must be a prefix like 10.0.0.0/8, not {value!r}")
        return None

    def mac(self, key: str) -> bytes:
        """A required MAC address."""
        if not self.required(key):
            return bytes(6)
        return self.as_mac(key, self.raw(key))

    def as_mac(self, key: str, value: object) -> bytes:
        """`value`, which stands at `key`, as the six octets of a MAC address."""
        with suppress(ValueError, OverflowError):  # told below, as what is no text
            if isinstance(value, str):
                return parse_mac(value).to_bytes(6, "big")
        self.problem(key, f"must be a MAC address like 02:00:00:01:00:01, not {value!r}")
        return bytes(6)

    def port_range(self, key: str) -> tuple[int, int] | None:
        """A port or "low-high", inclusive; None when absent."""
        value = self.raw(key)
        return None if value is None else self.as_port_range(key, value)

    def port_set(self, key: str) -> bytes:
        """A required list of ports and ranges: 65,536 bytes, 1 for each port that is in one."""
        chosen = bytearray(65_536)
        for index, item in enumerate(self.items(key)):
            bounds = self.as_port_range(f"{key}[{index}]", item)
            if bounds is not None:
                low, high = bounds
                chosen[low : high + 1] = b"\x01" * (high - low + 1)
        return bytes(chosen)

    def as_port_range(self, key: str, value: object) -> tuple[int, int] | None:
        """`value`, which stands at `key`, as an inclusive range of ports."""
        bounds: tuple[int, int] | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            bounds = value, value
        elif isinstance(value, str):
            low, dash, high = value.partition("-")
            if low.isdecimal() and (high.isdecimal() or not dash):
                bounds = int(low), int(high) if dash else int(low)
        if bounds is not None and 0 <= bounds[0] <= bounds[1] <= 0xFFFF:
            return bounds
        self.problem(key, f'must be a port (0 to 65535) or "low-high", not {value!r}')
        return None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
