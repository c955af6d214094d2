"""Where an entry comes from: `fw: access.json:14`, of which a device is told all but the line.

What a rule says stays what it is when another one is inserted before it; its line does not. So on a
device a rule is known by what it asks and in which order (table, match, priority), and by the file it is
in. Its line is kept beside the entries of a bundle, and looked up when an entry is shown.

A merged rule comes from several: `fw: rules[3] & steer: rules[1]`.
"""

from __future__ import annotations

import re

_AND = " & "
_PLACE = re.compile(r"(.*[^\s\]:&])(:\d+|\[\d+\])")
"""A rule and its place in a file or in a list of the configuration."""
_RULE = re.compile(r"(?:[^\s:]+: )?[^:]*")
"""What may stand before a place: the NF, and a name without a colon (no address has a place)."""


def told(origin: str) -> str:
    """What a device is told: `fw: access.json`, `fw: rules & steer: rules`."""
    if origin[-1:] not in _LAST and _AND not in origin:
        return origin
    nf, _, rule = origin.partition(": ")  # as half a million routes have it
    file, _, line = rule.partition(":")
    if line.isdecimal() and file[-1:].isalnum():
        return f"{nf}: {file}"
    return _AND.join([_split(part)[0] for part in origin.split(_AND)])


def places_of(origin: str) -> str:
    """The places in it, for `placed`: `:14`, `[3]&[1]`; empty where there is none."""
    if origin[-1:] not in _LAST and _AND not in origin:
        return ""
    places = [_split(part)[1] for part in origin.split(_AND)]
    return "&".join(places) if any(places) else ""


def placed(origin: str, places: str) -> str:
    """An origin as it was before it was `told`; ValueError when the places are not its own."""
    if not places:
        return origin
    parts, placed_parts = origin.split(_AND), places.split("&")
    whole = _AND.join([part + place for part, place in zip(parts, placed_parts, strict=True)])
    if (told(whole), places_of(whole)) != (origin, places):
        raise ValueError(f"'{places}' is no place of '{origin}'")
    return whole


_LAST = frozenset("0123456789]")


def _split(part: str) -> tuple[str, str]:
    match = _PLACE.fullmatch(part)
    if match is None or not _RULE.fullmatch(match[1]):
        return part, ""
    return match[1], match[2]
