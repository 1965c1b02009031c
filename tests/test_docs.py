"""The documentation is true: pages made from the code are fresh, commands run, names exist."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Process, free_port, running
from support.e2e import Daemon, Mesh
from support.pages import ROOT, Folder, Page
from support.wire import Recorder, eventually, tool

from sidecar.config.loaded import parse_documents

DOCS = ROOT / "docs"
MAP = Page(ROOT / "ARCHITECTURE.md")
TUTORIAL = Page(DOCS / "tutorial" / "first-steps.md")
WRITTEN = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("*/README.md")]
PORTS = ("9000", "8443", "15000")
MADE = ("access-log", "admin", "cli", "limits", "metrics-and-stats", "refusals")

each_page = pytest.mark.parametrize(
    "page",
    [Page(path) for path in sorted(WRITTEN)],
    ids=lambda page: page.path.relative_to(ROOT).as_posix(),
)


# -- pages made from the code


@pytest.fixture(scope="module")
def generate() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield importlib.import_module("generate")


@pytest.mark.parametrize("name", MADE)
def test_a_page_made_from_the_code_is_not_stale(name: str, generate: Any) -> None:
    written = (DOCS / "reference" / f"{name}.md").read_text()
    assert written == generate.PAGES[name](), "run `python docs/generate.py`"


def test_every_page_that_can_be_made_is_looked_at(generate: Any) -> None:
    assert sorted(generate.PAGES) == list(MADE)


# -- all pages


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    assert page.broken_links() == []


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = set(re.findall(r"\]\(([^)#]+\.md)\)", (DOCS / "README.md").read_text()))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.glob("*/*.md")}
    assert listed == pages


@each_page
def test_documents_in_it_are_sound(page: Page) -> None:
    for block in page.blocks("yaml"):
        loaded = parse_documents(block.encode(), page.path.name)
        assert [problem.message for problem in loaded.errors] == []


@each_page
def test_it_never_names_a_distribution_that_is_not_ours(page: Page) -> None:
    assert not re.search(r"pip install (-\S+ )*sidecar", page.text)


HOW_TOS = [Page(path) for path in sorted((DOCS / "how-to").glob("*.md"))]


@pytest.mark.parametrize("page", HOW_TOS, ids=lambda page: page.path.stem)
def test_the_commands_of_a_how_to_can_be_run(page: Page, tmp_path: Path) -> None:
    folder = Folder(tmp_path, {port: free_port() for port in PORTS})
    for command in page.blocks("sh"):
        folder.run(command)


# -- the map of the code


def code_names() -> set[str]:
    """Every function, class, and `Class.method` of sidecar/."""
    found: set[str] = set()
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for path in (ROOT / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = {one.name for one in node.body if isinstance(one, functions)}
                found |= {node.name, *(f"{node.name}.{name}" for name in methods)}
            elif isinstance(node, functions):
                found.add(node.name)
    return found


def test_the_life_of_a_request_names_functions_that_exist() -> None:
    (diagram,) = [body for body in MAP.blocks("") if "Drive.run" in body]
    first = [line.strip().split("  ")[0] for line in diagram.splitlines()]
    named = {name for cell in first for name in cell.split(", ")}
    assert {"serve", "decide", "Clusters.lease", "Reply.run", "review", "Journal.write"} <= named
    assert named - code_names() == set()


def test_the_map_names_places_that_exist() -> None:
    marked = set(re.findall(r"`([\w.-]*/[\w./-]*)`", MAP.text)) - {"/readyz"}
    places = (ROOT, ROOT / "sidecar")
    assert len(marked) > 20
    assert {one for one in marked if not any((place / one).exists() for place in places)} == set()


def test_the_map_names_doors_that_exist() -> None:
    rows = MAP.text.partition("## The map")[2].partition("\n\n`*`")[0].splitlines()
    doors = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[-2:][0])}
    assert len(doors) > 20
    assert doors - code_names() == set()


# -- names that a running sidecar tells

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {namespaces: [agent]}}]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mesh = Mesh(tmp_path_factory.mktemp("docs"))
    mesh.write("policy.yaml", POLICY)
    with Recorder() as server, mesh.run({"mcp": {"to": server.url}}) as started:
        with started.caller("agent/me") as caller:
            assert caller.ask("POST", "/mcp", tool("read_file")).status == 200
        yield started


def documented(page: str) -> set[str]:
    """The names in the first column of a page's tables."""
    text = (DOCS / "reference" / f"{page}.md").read_text()
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_every_metric_of_a_running_sidecar_is_on_its_page(daemon: Daemon) -> None:
    families = set(re.findall(r"^# TYPE (\S+)", daemon.page("/metrics")[1], re.MULTILINE))
    assert "sidecar_requests_total" in families
    assert families - documented("metrics-and-stats") == set()


def test_every_counter_of_a_running_sidecar_is_on_its_page(daemon: Daemon) -> None:
    cluster = re.compile(r"cluster\..+\.(?=(?:upstream|membership|outlier_detection)[_.])")
    names = {re.sub(r"_\d+$", "_N", cluster.sub("", name)) for name in daemon.stats()}
    assert {"http.inbound.downstream_rq_N", "upstream_rq_total"} <= names
    assert names - documented("metrics-and-stats") == set()


def test_every_event_of_the_log_is_on_its_page() -> None:
    text = "".join(path.read_text() for path in (ROOT / "sidecar").rglob("*.py"))
    events = set(re.findall(r'"event": "(\w+)"', text))
    assert {"handshake_failed", "reloaded"} <= events
    assert events - documented("access-log") == set()


def words_in(file: str, *functions: str) -> set[str]:
    """The single words that *functions* of a file, or its assignments, hold as strings."""
    found: set[str] = set()
    for node in ast.parse((ROOT / "sidecar" / file).read_text()).body:
        if getattr(node, "name", getattr(getattr(node, "target", None), "id", "")) in functions:
            strings = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            found |= {one for one in strings if isinstance(one, str) and one.isidentifier()}
    return {word for word in found if word.islower()}


def test_every_reason_of_a_refused_handshake_is_on_its_page() -> None:
    judges = ("_leaf", "_identity_of", "_check_usage", "_bundle_of", "_stray", "check_leaf")
    reasons = (
        words_in("net/tls.py", "_VERIFY_REASONS", "identify", "reason_of")
        | words_in("spiffe/svid.py", *judges)
    ) - {"digital_signature", "key_cert_sign", "crl_sign"}
    assert {"expired", "ca_leaf", "no_certificate", "old_protocol"} <= reasons
    assert reasons - documented("refusals") == set()


# -- the tutorial


class Reader:
    """Somebody who follows the tutorial: every command in order, servers in the background."""

    def __init__(self, folder: Folder, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._sidecar: Process | None = None
        self._count = 0

    def follow(self, command: str) -> str:
        """Do what a block says; return what it printed."""
        if "sidecar.demo.server" in command:
            self._start("server", command).wait_for("listening")
        elif "sidecar run" in command:
            if self._sidecar is not None:
                self._sidecar.stop()
            ported = "{} --listen 127.0.0.1:8443" if "--to" in command else "{}\nwait"
            self._sidecar = self._start("sidecar", ported.format(command.rstrip()))
            self._hears("sidecar: ready\n")
        else:
            said = self._folder.run(command)
            if "kill -HUP" in command:
                self._hears("configuration reloaded")
            return said
        return ""

    def _start(self, name: str, command: str) -> Process:
        self._count += 1
        argv = ["bash", "-c", self._folder.placed(command)]
        name = f"{name}-{self._count}"
        return self._stack.enter_context(running(name, argv, self._folder.path, self._folder.env))

    def _hears(self, text: str) -> None:
        sidecar = self._sidecar
        assert sidecar is not None
        eventually(lambda: text in sidecar.said() or not sidecar.is_alive(), text)
        assert text in sidecar.said()


@pytest.mark.timeout(120)
def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL.text, re.MULTILINE | re.DOTALL)
    compared = 0
    with ExitStack() as stack:
        reader = Reader(Folder(tmp_path, {port: free_port() for port in PORTS}), stack)
        said = ""
        for kind, body in blocks:
            if kind == "sh":
                said = re.sub(r'"requestId":"[0-9a-f-]+"', '"requestId":"ID"', reader.follow(body))
            elif kind == "json":
                assert json.loads(said) == json.loads(body)
                compared += 1
            else:
                assert said == body
                compared += 1
    assert compared == 5
