"""Quantities with units as files have them: rates, times, bytes; and names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from orchestrator.errors import MOST_QUOTED, InputError, quoted, shortened

RATES = {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9, "Tbit/s": 10**12}
SHORT_RATES = {"bps": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
"""As people say them, in files and options alike: `10G`."""
TIMES = {"us": 1, "ms": 10**3, "s": 10**6}
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
LARGEST = 1 << 62
_QUANTITY = re.compile(r"(-?[0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z/]*)")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def parse_quantity(value: object, units: Mapping[str, int], example: str) -> int:
    """`'100Mbit/s'` or a bare number, in the first of `units`."""
    factor: float = 1
    number = value
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{quoted(value)} is not a quantity like '{example}'")
        accepted = {**units, **SHORT_RATES} if units is RATES else units
        factors = {name.lower(): factor for name, factor in accepted.items()}
        unit = match[2].lower()
        if unit and unit not in factors:
            raise ValueError(
                f"{quoted(value)}: unknown unit {quoted(match[2])} (known: {', '.join(units)})"
            )
        factor, number = factors.get(unit, 1), float(match[1])
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{quoted(value)} is not a quantity like '{example}'")
    if number < 0:
        raise ValueError(f"{shortened(str(value), MOST_QUOTED)} is negative")
    if number * factor > LARGEST:
        raise ValueError(f"{shortened(str(value), MOST_QUOTED)} is too large")
    return round(number * factor)


def seconds(text: str, what: str, least: float, most: float) -> float:
    """`'500ms'`, or a bare number of seconds; InputError names `what` (an option) and what is valid."""
    try:
        plain = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text.strip())
        value = float(text) if plain else parse_quantity(text, TIMES, "500ms") / TIMES["s"]
    except ValueError as error:
        raise InputError(f"{what}: {error}") from None
    if not least <= value <= most:
        raise InputError(f"{what}: '{text}' is not between {least:g} s and {most:g} s")
    return value


def parse_name(text: str) -> str:
    """Names become those of tables, files and interfaces."""
    if not _NAME.fullmatch(text) or len(text) > 64:
        raise ValueError(
            f"{quoted(text)} is not a name: lower-case letters, digits, '_' and '-', "
            "beginning with a letter, at most 64"
        )
    return text


def _schema(example: str) -> WithJsonSchema:
    quantity = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*[A-Za-z/]*$"}
    return WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, quantity], "examples": [example]}
    )


Name = Annotated[
    str,
    AfterValidator(parse_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_-]*$", "maxLength": 64}),
]
Rate = Annotated[
    int, PlainValidator(lambda v: parse_quantity(v, RATES, "100Mbit/s")), _schema("100Mbit/s")
]
"""bit/s."""
Microseconds = Annotated[
    int, PlainValidator(lambda v: parse_quantity(v, TIMES, "5ms")), _schema("5ms")
]
Bytes = Annotated[
    int, PlainValidator(lambda v: parse_quantity(v, SIZES, "16GiB")), _schema("16GiB")
]
