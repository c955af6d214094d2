"""Snort and Suricata rules: what an ids can say is said, all else is told with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.graph import load_graph
from orchestrator.graph.importers import SnortImport, import_snort
from orchestrator.nfs.ids import SignatureFields, content_bytes

RULES = r"""
# Written for this test; real rule sets look like it.
ipvar HOME_NET any
portvar HTTP_PORTS [80,8000:8100,!8080]
alert tcp $EXTERNAL_NET any -> $HOME_NET $HTTP_PORTS (msg:"WEB probe \"x\"; odd"; \
    flow:to_server,established; content:"GET /cgi-bin/test|2e|cgi|20|HTTP"; nocase; fast_pattern:only; \
    classtype:web-application-attack; reference:url,example.org/a; sid:1000001; rev:3;)
drop udp any any -> any 53 (msg:"DNS tunnel"; content:"|03|tun|04|evil"; sid:1000002;)
alert tcp any 6667 -> any any (msg:"bot"; flow:to_client; content:"\\join\: \;|0d 0a 7c|"; sid:1000003;)
alert tcp any any <> any !1024: (content:"both", nocase, fast_pattern; gid:1; priority:2; sid:1000004;)
alert tcp-stream any any -> any any (content:"caf\u00e9"; metadata:a b, c d; sid:1000005;)
# alert tcp any any -> any 80 (content:"disabled"; sid:9;)
""".replace("\\u00e9", "é")


def read(tmp_path: Path, text: str, **variables: str) -> SnortImport:
    file = tmp_path / "local.rules"
    file.write_text(text)
    return import_snort(file, variables)


def test_the_common_subset(tmp_path: Path) -> None:
    found = read(tmp_path, RULES, EXTERNAL_NET="any")
    assert found.unsupported == []
    by_id = {s["id"]: s for s in found.signatures}
    assert by_id[1000001] == {
        "id": 1000001,
        "msg": 'WEB probe "x"; odd',
        "protocol": "tcp",
        "action": "alert",
        "content": "GET /cgi-bin/test.cgi HTTP",
        "nocase": True,
        "ports": ["80", "8000-8079", "8081-8100"],
        "to": "server",
    }
    assert content_bytes(by_id[1000002]["content"]) == b"\x03tun\x04evil"
    assert (by_id[1000002]["action"], by_id[1000002]["to"]) == ("drop", "server")
    assert content_bytes(by_id[1000003]["content"]) == b"\\join: ;\r\n|"
    assert (by_id[1000003]["ports"], by_id[1000003]["to"]) == (["6667"], "client")
    assert by_id[1000004]["ports"] == ["0-1023"]
    assert "to" not in by_id[1000004]
    assert content_bytes(by_id[1000005]["content"]) == "café".encode()
    for signature in found.signatures:
        SignatureFields.model_validate(signature)


@pytest.mark.parametrize(
    ("rule", "keyword"),
    [
        ('reject tcp any any -> any 80 (content:"a"; sid:1;)', "reject"),
        ('alert ip any any -> any 80 (content:"a"; sid:1;)', "ip"),
        ('alert http any any -> any any (content:"a"; sid:1;)', "http"),
        ('alert tcp 10.0.0.0/8 any -> any 80 (content:"a"; sid:1;)', "10.0.0.0/8"),
        ('alert tcp $HOME_NET any -> any 80 (content:"a"; sid:1;)', "$HOME_NET"),
        ('alert tcp any 1:2 -> any 80 (content:"a"; sid:1;)', "1:2 -> 80"),
        ('alert tcp any any -> any 99999 (content:"a"; sid:1;)', "99999"),
        ('alert tcp any any -> any !any (content:"a"; sid:1;)', "!any"),
        ('alert tcp any any -> any 80 (msg:"none"; sid:1;)', "content"),
        ('alert tcp any any -> any 80 (content:"a"; content:"b"; sid:1;)', "content"),
        ('alert tcp any any -> any 80 (content:!"a"; sid:1;)', "content"),
        ('alert tcp any any -> any 80 (content:"a"; pcre:"/x;y/i"; sid:1;)', "pcre"),
        ('alert tcp any any -> any 80 (content:"a"; depth:3; sid:1;)', "depth"),
        ('alert tcp any any -> any 80 (content:"a", depth 3; sid:1;)', "depth"),
        ('alert tcp any any -> any 80 (content:"a"; flow:to_client; sid:1;)', "flow"),
        ('alert tcp any any -> any any (content:"a"; flow:to_server; sid:1;)', "flow"),
        ('alert tcp any any -> any 80 (content:"a"; flow:stateless; sid:1;)', "flow"),
        ('alert tcp any any -> any 80 (http.uri; content:"a"; sid:1;)', "http.uri"),
        ('alert tcp any any -> any 80 (content:"a"; nocas; sid:1;)', "nocas"),
    ],
)
def test_what_an_ids_cannot_say_is_told(tmp_path: Path, rule: str, keyword: str) -> None:
    found = read(tmp_path, f"\n{rule}\n")
    assert found.signatures == []
    assert [item.keyword for item in found.unsupported] == [keyword]
    assert found.unsupported[0].where.endswith("local.rules:2")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alert tcp any any 80", "local.rules:1:1: is no 'ACTION"),
        ('alert tcp any any -> any 80 content:"a"', "local.rules:1:29: the options"),
        ('alert tcp any any -> any 80 (content:"a; sid:1;)', "1:30: a quote is not closed"),
        ('alert tcp any any -> any 80 (content:"a"; sid:1)', "1:42: the last option does not"),
        (
            'alert tcp any any -> any 80 (content:"|0|"; sid:1;)',
            r"1:30: content: '\|0\|' is not hex",
        ),
        ('alert tcp any any -> any 80 (content:"a|0d"; sid:1;)', "not closed"),
        ('alert tcp any any -> any 80 (content:""; sid:1;)', "content: is empty"),
        ("alert tcp any any -> any 80 (content:a; sid:1;)", "must be in quotes"),
        ('alert tcp any any -> any 80 (content:"a"; sid:x;)', "'x' is no sid"),
        ('alert tcp any any -> any 80 (content:"a";)', "has no sid"),
        ('alert tcp any any -> any 80 (content:"a"; ; sid:1;)', "an option is empty"),
        ('alert tcp any any -> any 80 (content:"a"; sid:1;)\n' * 2, "sid 1 is given at .*rules:1"),
        ("# nothing\n", "has no rules"),
    ],
)
def test_broken_lines_are_told_with_line_and_column(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        read(tmp_path, text)


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["import", "snort", *arguments])


def test_the_command_refuses_or_leaves_out_and_writes_a_graph_that_loads(tmp_path: Path) -> None:
    file, output = tmp_path / "a.rules", tmp_path / "graph.json"
    file.write_text(RULES + 'alert tcp any any -> any 80 (content:"a"; pcre:"/b/"; sid:77;)\n')
    given = (str(file), "-o", str(output), "--graph", "--var", "EXTERNAL_NET=any")
    refused = command(*given)
    assert isinstance(refused.exception, InputError)
    assert f"{file}:13: pcre: not in an ids" in str(refused.exception)
    assert not output.exists()
    result = command(*given, "--skip-unsupported", "--json")
    told = json.loads(result.stdout)
    assert (told["signatures"], [u["keyword"] for u in told["unsupported"]]) == (5, ["pcre"])
    assert list(load_graph(output).graph.nfs) == ["ids"]
    assert command(*given[:3], "--var", "x").exception is not None
