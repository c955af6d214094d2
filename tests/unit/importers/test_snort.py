"""Snort and Suricata rules: what an ids can say is said, all else is told with its place."""

from __future__ import annotations

import json
import os
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
    read_back = read(tmp_path, RULES, EXTERNAL_NET="any")
    assert read_back.unsupported == []
    by_id = {s["id"]: s for s in read_back.signatures}
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
    for signature in read_back.signatures:
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
        ('alert tcp any any => any 80 (content:"a"; sid:1;)', "=>"),
        ('alert tcp [$HOME,any] any -> any 80 (content:"a"; sid:1;)', "[$HOME,any]"),
        ('alert tcp [any,!10.0.0.0/8] any -> any 80 (content:"a"; sid:1;)', "[any,!10.0.0.0/8]"),
        ('alert tcp any any -> any 80 (http.uri; content:"a"; sid:1;)', "http.uri"),
        ('alert tcp any any -> any 80 (content:"a"; nocas; sid:1;)', "nocas"),
    ],
)
def test_what_an_ids_cannot_say_is_told(tmp_path: Path, rule: str, keyword: str) -> None:
    read_back = read(tmp_path, f"\n{rule}\n")
    assert read_back.signatures == []
    assert [item.keyword for item in read_back.unsupported] == [keyword]
    assert read_back.unsupported[0].where.endswith("local.rules:2")


OTHER = 'alert tcp any any -> any 80 (content:"other"; sid:99;)'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alert tcp any any 80", "alert tcp any any 80: is no 'ACTION"),
        ("alert", "alert: is no 'ACTION"),
        ("include other.rules", "include other.rules: is no 'ACTION"),
        ('\x00\udcff("', "an option is expected"),
        ('alert tcp any any -> any 80 content:"a"', "is no 'ACTION"),
        ('alert tcp any any 80 (content:"a"; sid:1;)', "alert tcp any any 80: is no 'ACTION"),
        ('alert tcp any any -> any 80 (content:"a; sid:1;)', "content: a quote is not closed"),
        ('alert tcp any any -> any 80 (\nmsg:"a;\ncontent:"b";\nsid:1;\n)', "msg: a quote is not"),
        ('alert tcp any any -> any 80 (content:"a"; sid:1)', "sid:1): the option does not end"),
        ('alert tcp any any -> any 80 (content:"a"; sid:1;', "(: the parenthesis of the options"),
        ('alert tcp any any -> any 80 (content:"|0|"; sid:1;)', "content: '|0|' is not hex"),
        ('alert tcp any any -> any 80 (content:"a|0d"; sid:1;)', "not closed"),
        ('alert tcp any any -> any 80 (content:""; sid:1;)', "content: is empty"),
        ("alert tcp any any -> any 80 (content:a; sid:1;)", "content:a: must be in quotes"),
        ('alert tcp any any -> any 80 (content:"a"; sid:x;)', "sid:x: is no sid"),
        ('alert tcp any any -> any 80 (content:"a"; sid:1; rev:-1;)', "rev:-1: is no rev"),
        ('alert tcp any any -> any 80 (content:"a"; gid:$; sid:1;)', "gid:$: is no gid"),
        ('alert tcp any any -> any 80 (content:"a";)', "any 80: has no sid"),
        ('alert tcp any any -> any 80 (content:"a"; ; sid:1;)', "an option is expected"),
        ('alert http ( content:"a"; sid:1; )', "alert http: a rule of a service or file"),
        ('file_id ( msg:"a"; sid:1; )', "file_id: a rule of a service or file"),
        ('alert tcp any any -> any [80 (content:"a"; sid:1;)', "a list is not closed"),
        (f'alert tcp any any -> any {"[" * 99}80{"]" * 99} (content:"a"; sid:1;)', "too deeply"),
        (f"{OTHER} {OTHER}", "stands behind the rule"),
    ],
)
def test_what_cannot_be_read_is_told_and_takes_no_other_line_with_it(
    tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "local.rules"
    file.write_text(f"# odd\n{text}\n{OTHER}\n", errors="surrogateescape")
    imported = import_snort(file, {})
    assert [signature["id"] for signature in imported.signatures] == [99]
    (item,) = imported.unsupported
    assert item.where == f"{file}:2"
    assert problem in str(item)


def test_unclosed_comments_are_told(tmp_path: Path) -> None:
    for mark in ("/* x", "#begin"):
        read_back = read(tmp_path, f"{OTHER}\n{mark}\n{OTHER}\n")
        assert [item.where[-2:] for item in read_back.unsupported] == [":2"]
        assert "a comment is not closed" in read_back.unsupported[0].why
    with pytest.raises(InputError, match="has no rules"):
        read(tmp_path, "# nothing\n")


LAYOUTS = {
    "several lines": 'alert tcp any any -> any 80\n(\n  msg:"m";\n  content:"a";\n  sid:1;\n)\n',
    "header over lines": 'alert tcp\n any any\n -> any [80,\n 80] (content:"a"; msg:"m"; sid:1;)',
    "backslashes": 'alert tcp any any -> any 80 (msg:"m"; \\ \n content:"a"; \\\r\n sid:1;)\r\n',
    "carriage returns": '# x\ralert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;)\r# y',
    "byte order mark": '\ufeffalert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;)',
    "C comment": '/* a\n b */ alert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;) /* c\n */',
    "begin and end": '#begin\nno rule\n#end\nalert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;)',
    "remark": 'alert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;) # "remark (\\\n',
    "remarks inside": 'alert tcp any any -> any 80 # (\n( # )\nmsg:"m"; /* ; */ '
    'content:"a";\n#"\nsid:1;)',
    "remark with backslash": '# C:\\\nalert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;)',
    "disabled rule": '#alert tcp any any -> any 1 (\\\n content:"x"; sid:2;)\n'
    'alert tcp any any -> any 80 (msg:"m"; content:"a"; sid:1;)',
    "parenthesis in an option": "alert tcp any any -> any 80 "
    '(msg:"m"; content:"a"; reference:url,a/b_(c); sid:1;)',
    "blanks in a list": 'alert tcp [ any ] any -> any [ 80, 80 ] (msg:"m"; content:"a"; sid:1;)',
    "variables": "var A [any, any]\nportvar P [80]\n"
    'alert tcp $A any -> [$A] [$(P),!81] (msg:"m"; content:"a"; sid:1;)',
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_of_the_same_rule(tmp_path: Path, text: str) -> None:
    (tmp_path / "local.rules").write_bytes(text.encode())
    imported = import_snort(tmp_path / "local.rules", {})
    assert imported.unsupported == []
    expected = {"protocol": "tcp", "action": "alert", "content": "a", "ports": ["80"]}
    assert imported.signatures == [{"id": 1, "msg": "m", **expected, "to": "server"}]


@pytest.mark.parametrize(
    ("option", "content"),
    [
        (rb'content:"x\;y\"z\\\:"', b'x;y"z\\:'),
        (b'content:"a#b;c) \'"', b"a#b;c) '"),
        (b'content:"caf\xe9"', b"caf\xe9"),
        (b'content:"a b\\\n c"', b"a b c"),
        (b'content:"' + b"ab" * 100_000 + b'"', b"ab" * 100_000),
        (b'content:"a\x00\xc2\x85b"', b"a\x00\xc2\x85b"),
    ],
)
def test_contents_keep_their_bytes(tmp_path: Path, option: bytes, content: bytes) -> None:
    (tmp_path / "a.rules").write_bytes(b"alert tcp any any -> any 80 (%s; sid:1;)" % option)
    (signature,) = import_snort(tmp_path / "a.rules", {}).signatures
    assert content_bytes(signature["content"]) == content


@pytest.mark.parametrize("pattern", ["""/^["']?post/Ri""", '/a"/', """/["',]x/"""])
def test_quotes_in_a_pattern(tmp_path: Path, pattern: str) -> None:
    rule = f'alert tcp any any -> any 80 (content:"a"; pcre:"{pattern}"; sid:1;)'
    assert [item.keyword for item in read(tmp_path, rule).unsupported] == ["pcre"]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ("[80,[8000:8002,!8001],!81]", ["80", "8000", "8002"]),
        ("![80,[81,82]]", ["0-79", "83-65535"]),
        ("[$WEB,8443]", ["80-81", "8443"]),
        ("[!$WEB]", ["0-79", "82-65535"]),
    ],
)
def test_lists_of_ports(tmp_path: Path, ports: str, expected: list[str]) -> None:
    rule = f'alert tcp any any -> any {ports} (content:"a"; sid:1;)'
    (signature,) = read(tmp_path, rule, WEB="[80,81]").signatures
    assert signature["ports"] == expected


def test_newer_revisions_and_other_generators(tmp_path: Path) -> None:
    rule = 'alert tcp any any -> any 80 (content:"{}"; {} sid:1; rev:{};)\n'
    text = rule.format("old", "", 1) + rule.format("new", "gid:1;", 3) + rule.format("mid", "", 2)
    read_back = read(
        tmp_path, text + rule.format("other", "gid:3;", 9) + rule.format("twice", "", 3)
    )
    assert [(s["id"], s["content"]) for s in read_back.signatures] == [(1, "new")]
    assert len(read_back.replaced) == 2
    assert ["gid 3" in str(read_back.unsupported[0]), read_back.unsupported[1].keyword] == [
        True,
        "sid 1",
    ]
    # A newer revision that an ids cannot say: the older one is out of date all the same.
    read_back = read(tmp_path, rule.format("old", "", 1) + rule.format("new", "depth:3;", 2))
    assert read_back.signatures == []
    assert [item.keyword for item in read_back.unsupported] == ["depth"]


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


def test_files_that_hold_no_rules(tmp_path: Path) -> None:
    (tmp_path / "utf16.rules").write_bytes(OTHER.encode("utf-16"))
    os.mkfifo(tmp_path / "pipe.rules")
    for name, problem in (
        (".", "is a directory"),
        ("pipe.rules", "is a named pipe"),
        ("/dev/zero", "is a device"),
        ("utf16.rules", "is UTF-16"),
        ("utf61.rules", "did you mean 'utf16.rules'"),
    ):
        with pytest.raises(InputError, match=problem):
            import_snort(tmp_path / name, {})
