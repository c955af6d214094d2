"""The same refusals by a real BMv2: other codes and reasons, the same words for what was refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from processes import BMV2, SwitchProcess
from test_failures import CASES, EDGE, GOLDEN, INSERT, SCHEMA

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import WriteRefused
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.targets.pipelines import p4info

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BMV2, reason="BMv2: not installed")]


@pytest.fixture(scope="module")
def process() -> Iterator[SwitchProcess]:
    made = SwitchProcess("bmv2", 3)
    yield made
    made.kill()


@pytest.fixture
def client(process: SwitchProcess) -> Iterator[SwitchClient]:
    with SwitchClient("leaf1", process.address, 3) as opened:
        opened.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie)
        yield opened


@pytest.mark.parametrize("case", CASES)
def test_what_was_refused_is_told_in_the_same_words(case: str, client: SwitchClient) -> None:
    before, tried = CASES[case]
    client.write(before)
    with pytest.raises(WriteRefused) as caught:
        client.write(tried)
    text = str(caught.value)
    golden = (GOLDEN / f"{case}.txt").read_text()
    words = golden.partition(": UNKNOWN")[0] + ": "
    assert text.startswith(words)
    code, _, reason = text.removeprefix(words).partition("; ")[0].partition(": ")
    assert code.isupper()
    assert len(reason) > len("unknown"), "a reason, not only a code"
    if case == "session_doubled":  # BMv2 keeps it when the pipeline is loaded anew
        client.write(CASES["session_not_there"][1])


def test_a_full_table_says_how_full(client: SwitchClient) -> None:
    """BMv2's UNKNOWN for it says nothing."""
    size = SCHEMA.table("neighbor.arp").size

    def entry(number: int) -> TableEntry:
        keys = (("ingress_port", Exact(1)), ("target", Exact(number)))
        return TableEntry("neighbor.arp", keys, "neighbor.answer_arp", (("mac", 5),), 0, "gateway")

    client.write(SCHEMA.updates(map(entry, range(size)), "campus", INSERT))
    with pytest.raises(WriteRefused, match=f"the table is full: {size} of {size} entries"):
        client.write(SCHEMA.updates([entry(size)], "campus", INSERT))
