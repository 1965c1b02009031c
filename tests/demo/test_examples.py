"""The examples work as their README says, with free ports in place of the written ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemon import PYTHON, Sidecar, free_port, issue, running
from support.sdk_env import legacy_python

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVERS = ("9001", "9002", "9003")
WRITTEN = ("8443", "15000", "15001", "15002", *SERVERS)
GATEWAY = "agent-prod/agent-gateway"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The example's folder, its servers and its sidecar, started as the README does."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("files", "agent"):
        shutil.copytree(EXAMPLES / name, folder / name)
    ports = {written: str(free_port()) for written in WRITTEN}
    for path in folder.rglob("*.yaml"):
        pattern = re.compile(rf"\b({'|'.join(WRITTEN)})\b")
        path.write_text(pattern.sub(lambda found: ports[found[1]], path.read_text()))
    (folder / "served" / "drafts").mkdir(parents=True)
    (folder / "served" / "notes.txt").write_text("hello\n")
    issue(folder, "mcp-prod/files", "--dns", "localhost", "--dns", "127.0.0.1")
    issue(folder, GATEWAY)
    with ExitStack() as stack:
        for written in SERVERS:
            listen = f"127.0.0.1:{ports[written]}"
            argv = [PYTHON, "-m", "sidecar.demo.server", "--root", "served", "--listen", listen]
            stack.enter_context(running(f"server-{written}", argv, folder)).wait_for("listening")
        argv = [PYTHON, "-m", "sidecar", "run", "-c", "files/sidecar.yaml"]
        process = stack.enter_context(running("sidecar", argv, folder))
        started = Sidecar(folder, process, int(ports["8443"]), int(ports["15000"]))
        started.wait_ready()
        yield started


def client(python: str | Path, script: str, example: Sidecar) -> str:
    argv = [python, EXAMPLES / "clients" / script, example.url, example.identity(GATEWAY)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + example.process.said()
    return done.stdout


def test_the_client_of_the_2_line_sees_what_it_may_use(example: Sidecar) -> None:
    said = client(PYTHON, "mcp_2.py", example)
    assert said == "tools: list_files, read_file, write_file\nnotes.txt\n"


def test_the_client_of_the_1_line_sees_what_it_may_use(
    example: Sidecar, request: pytest.FixtureRequest
) -> None:
    python = legacy_python(request.config.cache.mkdir("mcp1"))
    said = client(python, "mcp_1.py", example)
    assert said == "tools: list_files, read_file, write_file\nnotes.txt\n"


def test_a_client_beside_its_own_sidecar_needs_no_certificate(example: Sidecar) -> None:
    text = (example.folder / "agent" / "sidecar.yaml").read_text()
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", text)]
    argv = [PYTHON, "-m", "sidecar", "run", "-c", "agent/sidecar.yaml"]
    with running("agent", argv, example.folder) as process:
        near = Sidecar(example.folder, process, *ports)
        near.wait_ready()
        script = EXAMPLES / "clients" / "mcp_2.py"
        asked = [PYTHON, script, f"http://127.0.0.1:{near.port}/mcp"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + process.said()
    assert done.stdout == "tools: list_files, read_file, write_file\nnotes.txt\n"


@pytest.mark.parametrize(
    ("tool", "arguments", "status"),
    [
        ("write_file", {"path": "drafts/new.txt", "content": "x"}, 200),
        ("write_file", {"path": "notes.txt", "content": "x"}, 403),
        ("write_file", {"path": "drafts/../notes.txt", "content": "x"}, 403),
        ("delete_file", {"path": "drafts/new.txt"}, 403),
    ],
)
def test_arguments_decide(
    example: Sidecar, tool: str, arguments: dict[str, str], status: int
) -> None:
    from sidecar.demo.client import Caller

    certs = example.identity(GATEWAY)
    caller = Caller(example.port, certs / "svid_bundle.pem", certs)
    try:
        assert caller.call(tool, **arguments).status == status
    finally:
        caller.close()
    assert (example.folder / "served" / "notes.txt").read_text() == "hello\n"
