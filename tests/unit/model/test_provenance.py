"""What devices are told of a rule's place: nothing that another rule's insertion would change."""

from __future__ import annotations

import pytest

from orchestrator.model.provenance import placed, places_of, told

ORIGINS = {
    "fw: access.json:14": ("fw: access.json", ":14"),
    "fw: my rules.json:14": ("fw: my rules.json", ":14"),
    "fw: rules[3]": ("fw: rules", "[3]"),
    "fw: rules[3] & steer: rules[1]": ("fw: rules & steer: rules", "[3]&[1]"),
    "fw: default & steer: a.json:2": ("fw: default & steer: a.json", "&:2"),
    "fw: rules[3] & steer: default": ("fw: rules & steer: default", "[3]&"),
    "fw: default": ("fw: default", ""),
    "fw": ("fw", ""),
    "lb: bucket 3": ("lb: bucket 3", ""),
    "nat: from 2001:db8::a:1": ("nat: from 2001:db8::a:1", ""),
    "nat: owner of 02:00:00:00:00:01": ("nat: owner of 02:00:00:00:00:01", ""),
    "to ids.inside@server: core server1.2": ("to ids.inside@server: core server1.2", ""),
    "host h1": ("host h1", ""),
    "": ("", ""),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_place_is_taken_off_and_put_back(origin: str) -> None:
    assert (told(origin), places_of(origin)) == ORIGINS[origin]
    assert told(told(origin)) == told(origin)
    assert placed(told(origin), places_of(origin)) == origin


@pytest.mark.parametrize("places", [":x", "[1]&[2]", ":1:2", "14", "; drop"])
def test_a_damaged_place_is_refused(places: str) -> None:
    with pytest.raises(ValueError, match=r"place|argument"):
        placed("fw: access.json", places)
