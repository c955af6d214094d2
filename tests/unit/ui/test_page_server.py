"""What the page's server tells, to whom, and how it refuses.

Oracle: the commands' JSON. Blind spot: browsers (test_page.py).
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from certificates import Authority
from commands import ROOT, orchestrator, orchestrator_json
from page_support import folders, served

from orchestrator.cli.page import page
from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.ui.app import STATIC
from orchestrator.ui.guard import hosts_of
from orchestrator.ui.server import place

GRAPH = ROOT / "examples" / "branch_office" / "graph.json"
SECRETS = ("branch", "leaf", "server", "10.0.")
"""What an answer without a token must not have."""


class Asker:
    """A client that says what it likes."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self.token = parts.fragment.removeprefix("token=")

    def __call__(
        self, path: str, asked: Any = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, str]:
        given = self.token if token is None else token
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        said = {"Authorization": f"Bearer {given}"} if given else {}
        body = None if asked is None else asked if isinstance(asked, bytes) else json.dumps(asked)
        method = "GET" if asked is None else "POST"
        connection.request(method, path, body, {**said, **headers})
        answer = connection.getresponse()
        self.headers = dict(answer.getheaders())
        text = answer.read().decode()
        connection.close()
        return answer.status, text


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "branch.bundle"
    orchestrator("compile", str(GRAPH), "-o", str(path))
    return path


@pytest.fixture(scope="module")
def asker(bundle: Path) -> Iterator[Asker]:
    with folders(), served("--bundle", str(bundle)) as address:
        yield Asker(address)


PATHS = ("about", "network", "graphs", "rules", "stream", "synthesis/x", "deploy", "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "wrong", "ä"])
def test_nothing_is_told_without_the_token(asker: Asker, token: str) -> None:
    for path in PATHS:
        for asked in (None, {"device": "leaf1"}):
            status, text = asker(f"/api/{path}", asked, token=token.encode().decode("latin-1"))
            assert status == 401
            assert not [word for word in SECRETS if word in text]
    status, text = asker("/", token="")
    assert status == 200
    assert not [word for word in SECRETS if word in text]


@pytest.mark.slow
def test_another_name_is_refused_whatever_the_token(asker: Asker) -> None:
    for host in (
        "evil.example",
        f"evil.example:{asker.port}",
        "127.0.0.1",
        f"127.0.0.1:{asker.port + 1}",
    ):
        assert asker("/api/network", Host=host)[0] == 421
        assert asker("/", Host=host)[0] == 421
    assert asker("/api/about", Host=f"localhost:{asker.port}")[0] == 200


@pytest.mark.slow
def test_browsers_are_told_to_load_nothing_else(asker: Asker) -> None:
    for path in ("/", "/static/app.js", "/api/about", "/nothing"):
        asker(path)
        policy = asker.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert asker.headers["referrer-policy"] == "no-referrer"
        assert asker.headers["x-content-type-options"] == "nosniff"
    page = asker("/")[1]
    assert "http://" not in page
    assert "https://" not in page
    assert "<script>" not in page


@pytest.mark.slow
def test_it_tells_what_the_commands_tell(asker: Asker, bundle: Path) -> None:
    shown = orchestrator_json("bundle", "show", str(bundle))
    assert json.loads(asker("/api/graphs")[1])["graphs"] == [shown]
    entries = orchestrator_json("bundle", "show", str(bundle), "--entries", "leaf1")["rows"]
    page = json.loads(asker("/api/entries", {"device": "leaf1", "limit": 1000})[1])
    alike = ("table", "priority", "action", "nf", "rule")
    assert sorted(str([r[k] for k in alike]) for r in page["rows"]) == sorted(
        str([r[k] for k in alike]) for r in entries
    )
    question = {"source": "h1", "target": "h3:80", "why_not": "h3"}
    words = ("--from", "h1", "--to", "h3:80", "--network-wide", "--why-not", "h3")
    answered = json.loads(asker("/api/explain", question)[1])
    assert answered == orchestrator_json("explain", "--bundle", str(bundle), *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("entries", {"device": "leaf9"}, "leaf9"),
        ("entries", {"device": "leaf1", "limit": 10**9}, "limit"),
        ("entries", {"device": "leaf1", "sort": "x"}, "packets"),
        ("entries", {"device": "leaf1", "match": ["dts=1"]}, "dts"),
        ("entries", {"device": "leaf1", "evil": 1}, "evil"),
        ("entries", b"{", "question"),
        ("explain", {"packet": "nonsense"}, "nonsense"),
        ("explain", {"source": "h9", "target": "h1"}, "h9"),
        ("samples", {}, "bundle"),
        ("synthesis/x", None, "--graph"),
    ],
)
def test_what_is_wrong_is_named(asker: Asker, path: str, asked: Any, said: str) -> None:
    status, text = asker(f"/api/{path}", asked)
    assert status == 400
    assert said in json.loads(text)["error"]


@pytest.mark.slow
def test_large_questions_and_other_files_are_refused(asker: Asker) -> None:
    assert asker("/api/explain", b"x" * (2 << 20))[0] == 413
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        status, text = asker(path)
        assert status == 404, path
        assert "import" not in text


@pytest.mark.slow
def test_a_page_that_only_looks_has_no_way_to_act(asker: Asker) -> None:
    assert asker("/api/deploy", {"file": 0})[0] == 404
    assert asker("/api/trace", {"source": "h1", "target": "h3"})[0] == 404


@pytest.mark.slow
def test_elsewhere_it_is_served_over_tls_by_the_certificate_s_names(
    bundle: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "localhost")
    words = ("--certificate", str(certificate), "--key", str(key))
    with folders(), served("--bundle", str(bundle), *words) as address:
        parts = urlsplit(address)
        assert (parts.scheme, parts.hostname) == ("https", "localhost")
        context = ssl.create_default_context(cafile=str(authority.ca))
        connection = http.client.HTTPSConnection("localhost", parts.port, context=context)
        connection.request("GET", "/api/about")
        assert connection.getresponse().status == 401
        connection.close()
        with socket.create_connection(("127.0.0.1", parts.port or 0)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" not in plain.recv(100)


@pytest.mark.parametrize("listen", ["0.0.0.0:8423", "192.0.2.1:1", "[::]:8423", "example.org:80"])
def test_beyond_this_machine_tls_is_a_must(listen: str) -> None:
    with pytest.raises(InputError, match="TLS only"):
        place(listen, None, None)


@pytest.mark.parametrize("listen", ["8423", "127.0.0.1:x", "127.0.0.1:70000", ""])
def test_a_place_is_host_and_port(listen: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        place(listen, None, None)
    with pytest.raises(InputError, match="go together"):
        place(":0", Path("x"), None)


def test_names_of_a_server() -> None:
    assert hosts_of(["::1", "Localhost"], 8423) == {"[::1]:8423", "localhost:8423"}
    assert hosts_of(["a"], 443) == {"a:443", "a"}


def test_options_that_do_not_go_together(bundle: Path) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"bundle": bundle, "write": True}, "--write"),
        ({"bundle": bundle, "network": "x"}, "--network"),
        ({"topology": "x"}, "--topology"),
        ({"bundle": bundle, "graph": [Path("/no")]}, "/no"),
    )
    for given, said in cases:
        with pytest.raises(InputError, match=said):
            page(**given)


def test_without_its_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.page.find_spec", lambda _: None)
    with pytest.raises(EnvironmentMissing, match=r"starlette and uvicorn.*\[ui\]") as raised:
        page()
    assert raised.value.exit_code == 4


def test_the_libraries_of_the_page_have_their_licences() -> None:
    for folder in (STATIC / "vendor").iterdir():
        if folder.is_dir():
            assert "Permission is hereby granted" in (folder / "LICENSE").read_text(), folder
