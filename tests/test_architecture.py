"""What ARCHITECTURE.md says is absent, is absent: imports, I/O, clocks, second ways to a server.

Every check reads the source and runs none of it, so nothing here can be got round
by what happens to be called.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIDECAR = ROOT / "sidecar"

# A layer's name is a package of sidecar/, or the modules that make it up.
MADE_OF = {
    **dict.fromkeys(("relay", "replies", "forward", "mirror", "trip", "ways"), "exchange"),
    **dict.fromkeys(
        ("rotation", "log", "plan", "ids", "reload", "systemd", "health", "standing"), "app"
    ),
    **dict.fromkeys(("denylist", "doors", "drain", "memory", "notices"), "app"),
    **dict.fromkeys(("__main__", "units"), "cli"),
}
# Downwards only. Everybody may import `errors` and the version, and nobody the rest upwards.
MAY_IMPORT = {
    "errors": "",
    "spiffe": "",
    "http": "",
    "mcp": "",
    "policy": "spiffe mcp",
    "upstream": "mcp",
    "observe": "policy mcp",
    "config": "policy spiffe mcp upstream observe",
    "ca": "spiffe",
    "net": "http mcp spiffe policy upstream observe",
    "bridge": "net config mcp policy observe",
    "remote": "net config ca policy mcp observe spiffe",
    "exchange": "net config policy mcp http observe upstream",
    "admin": "exchange net config ca observe upstream policy http mcp spiffe",
    "app": "bridge remote admin exchange net config ca observe upstream policy http mcp spiffe",
    "checks": "app bridge remote admin exchange net config ca observe upstream policy http mcp "
    "spiffe",
    "demo": "app bridge remote admin exchange net config ca observe upstream policy http mcp "
    "spiffe",
    "cli": "checks demo app bridge remote admin exchange net config ca observe upstream policy "
    "http mcp spiffe",
}
PURE = {"errors", "spiffe", "http", "mcp", "policy", "upstream", "config", "observe", "ca"}
# The modules of pure layers that touch the disk, and say so.
DOES_IO = {
    "config/files.py",
    *(f"ca/{name}.py" for name in ("desk", "files", "identity", "ledger", "revocations", "store")),
    *(f"ca/{name}.py" for name in ("issue_log", "tokens", "turnover")),
}
IMPURE_MODULES = {
    *("asyncio", "socket", "ssl", "selectors", "select", "signal", "http.client", "urllib.request"),
    *("time", "os", "sys", "io", "random", "secrets", "logging", "tempfile", "shutil", "fcntl"),
    *("threading", "subprocess", "multiprocessing", "concurrent", "uvloop"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval"}
IMPURE_METHODS = {
    *("read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "iterdir"),
    *("stat", "exists", "is_file", "is_dir", "glob", "rglob", "resolve"),
    *("utcnow", "today"),
}

CEILING = 400  # lines a file
CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
READS_THE_CLOCK = re.compile(r"app\.py|cli/\w+\.py")
STARTS_TASKS = {"create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe"}

# Modules of pure layers without a test file of their own, and where they are tested.
TESTED_ELSEWHERE = {
    "config/policy_codes.py": "config/test_codes.py: every code is given, and explained",
    "config/balancers.py": "config/test_traffic.py: a part of DestinationRules, read with them",
    "config/traffic_codes.py": "config/test_codes.py: plain data, which the codes are made of",
    "http/chunks.py": "http/test_h1.py: a chunked body is read by the readers of both sides",
    "http/judge.py": "http/test_head.py: every head is judged both ways",
    "http/lines.py": "http/test_head.py: remembered lines are held against h11",
    "policy/call.py": "policy/test_facts.py: a Call is what facts are read from",
    "policy/spec.py": "policy/test_authz.py: plain data, which rules are compiled from",
    "policy/tokens/spec.py": "policy/tokens/test_rules.py: plain data, rules are compiled from it",
    "policy/verdict.py": "flow/test_exchange.py: plain data, which the flow writes as replies",
    "policy/scan/first_pass.py": "policy/scan/test_scanner.py: findings are the same without it",
    "spiffe/certificate.py": "spiffe/test_svid.py: what is read of a certificate is what is judged",
    "upstream/cluster.py": "net/test_clusters.py: plain data, which clusters are made of",
}


@dataclass(frozen=True)
class Module:
    """One source file of sidecar/."""

    path: Path

    @property
    def name(self) -> str:
        """Its path below sidecar/."""
        return self.path.relative_to(SIDECAR).as_posix()

    @property
    def dotted(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def layer(self) -> str:
        first = Path(self.name).with_suffix("").parts[0]
        return MADE_OF.get(first, first)

    @property
    def is_pure(self) -> bool:
        return self.layer in PURE and self.name not in DOES_IO

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    def found(self, kind: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))

    @cached_property
    def only_typed(self) -> set[ast.AST]:
        """What stands under `if TYPE_CHECKING`: it is never imported."""
        return {
            inner
            for node in self.found(ast.If)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }

    def imports(self, *, typed: bool = True) -> Iterator[str]:
        """Yield the dotted names of what it imports, our own in full."""
        package = self.path.relative_to(ROOT).parts[:-1]
        for node in ast.walk(self.tree):
            if not typed and node in self.only_typed:
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                stem = ".".join([*base, *([node.module] if node.module else [])])
                yield stem
                yield from (f"{stem}.{alias.name}" for alias in node.names)

    def calls(self) -> Iterator[str]:
        """Yield what is called, as written."""
        for node in self.found(ast.Call):
            assert isinstance(node, ast.Call)
            yield ast.unparse(node.func)

    def attributes(self) -> Iterator[str]:
        """Yield every dotted name, as written."""
        return (ast.unparse(node) for node in self.found(ast.Attribute))


MODULES = [Module(path) for path in sorted(SIDECAR.rglob("*.py"))]
NAMES = {module.dotted for module in MODULES}
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
each_pure = pytest.mark.parametrize(
    "module", [module for module in MODULES if module.is_pure], ids=lambda module: module.name
)


def layer_of(dotted: str) -> str:
    """The layer of one of our own dotted names; empty for the package itself."""
    first = dotted.split(".")[1] if "." in dotted else ""
    return "" if first in ("__version__", "__file__") else MADE_OF.get(first, first)


def texts() -> list[Path]:
    """Every text that the project consists of."""
    folders = ("sidecar", "tests", "bench", "docs", "examples", "certs", "systemd", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file()]
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".service", ".sh", ""}
    return [
        path
        for path in sorted(found)
        if path.suffix in suffixes
        and not any(part.startswith(".") and part != ".ci" for part in path.parent.parts[-3:])
        and "__pycache__" not in path.parts
    ]


def sources() -> list[Path]:
    return [path for path in texts() if path.suffix == ".py"]


def test_every_package_is_in_the_import_table() -> None:
    assert {module.layer for module in MODULES} - {"__init__"} == set(MAY_IMPORT)


@each_module
def test_imports_go_downwards_only(module: Module) -> None:
    ours = {layer_of(name) for name in module.imports() if name.split(".")[0] == "sidecar"}
    allowed = {*MAY_IMPORT.get(module.layer, "").split(), "errors", module.layer, ""}
    assert ours <= allowed


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        module.dotted: {
            name
            for name in module.imports(typed=False)
            if name in NAMES and name != module.dotted and not module.dotted.startswith(f"{name}.")
        }
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' -> '.join(error.args[1])}")


@each_pure
def test_a_pure_module_reads_no_clock_no_disk_no_chance_and_no_socket(module: Module) -> None:
    imported = {name for name in module.imports() if not name.startswith("sidecar")}
    roots = imported | {name.split(".")[0] for name in imported}
    assert not roots & IMPURE_MODULES
    called = set(module.calls())
    assert not called & (IMPURE_CALLS | CLOCKS)
    assert not {name.rpartition(".")[2] for name in called if "." in name} & IMPURE_METHODS


@pytest.mark.parametrize("name", sorted(DOES_IO))
def test_a_module_that_does_io_in_a_pure_layer_says_so(name: str) -> None:
    module = Module(SIDECAR / name)
    docstring = (ast.get_docstring(module.tree) or "").lower()
    assert re.search(r"i/o|\bfolder\b|\bfiles\b|\bdisk\b", docstring)


def test_no_file_is_longer_than_the_ceiling() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in sources()
    }
    assert {name: length for name, length in lengths.items() if length > CEILING} == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [module.name for module in MODULES if not ast.get_docstring(module.tree)] == []


def test_only_policy_makes_a_permit() -> None:
    makers = {
        module.layer
        for module in MODULES
        for name in module.calls()
        if name.rpartition(".")[2] == "Permit"
    }
    assert makers == {"policy"}


def test_only_the_flow_asks_for_a_lease() -> None:
    askers = {
        module.name
        for module in MODULES
        for name in module.calls()
        if name.endswith("clusters.lease")
    }
    assert askers == {"forward.py", "mirror.py"}


def test_tasks_are_started_in_one_place() -> None:
    starters = {
        module.name
        for module in MODULES
        for name in [*module.calls(), *module.imports()]
        if name.rpartition(".")[2] in STARTS_TASKS
    }
    assert starters == {"net/tasks.py"}


def test_the_time_of_day_is_read_where_the_program_is_put_together() -> None:
    readers = {
        module.name
        for module in MODULES
        if CLOCKS & {*module.attributes(), *module.imports()}
        and not READS_THE_CLOCK.fullmatch(module.name)
    }
    assert readers == set()


def test_what_lies_below_the_public_face_of_ssl_is_reached_in_one_place() -> None:
    reached = [
        module.name
        for module in MODULES
        for name in module.attributes()
        if name.endswith("._sslobj")
    ]
    assert reached == ["net/tls.py"]


def swallows_everything(handler: ast.AST) -> bool:
    assert isinstance(handler, ast.ExceptHandler)
    named = ast.walk(handler.type) if handler.type is not None else ()
    names = {node.id for node in named if isinstance(node, ast.Name)}
    broad = handler.type is None or bool(names & {"Exception", "BaseException"})
    return broad and not isinstance(handler.body[-1], ast.Raise)


def test_nothing_swallows_every_fault_but_the_one_rescue() -> None:
    swallowers = [
        module.name
        for module in MODULES
        for handler in module.found(ast.ExceptHandler)
        if swallows_everything(handler)
    ]
    # Who drives a flow hands its fault on to who is told of its end.
    assert swallowers == ["exchange.py", "net/wake.py"]


def test_no_module_is_changed_from_within_a_function() -> None:
    assert [module.name for module in MODULES if list(module.found(ast.Global))] == []


def needs_test_file(module: Module) -> bool:
    return (
        module.layer in PURE
        and module.layer != "errors"
        and module.path.name != "__init__.py"
        and module.name not in TESTED_ELSEWHERE
    )


@pytest.mark.parametrize(
    "module", [one for one in MODULES if needs_test_file(one)], ids=lambda module: module.name
)
def test_a_module_of_a_pure_layer_has_its_test_file(module: Module) -> None:
    folder = ROOT / "tests" / Path(module.name).parent
    assert (folder / f"test_{module.path.name}").is_file()


@pytest.mark.parametrize("name", sorted(TESTED_ELSEWHERE))
def test_an_exception_from_that_is_still_one(name: str) -> None:
    own = ROOT / "tests" / Path(name).parent / f"test_{Path(name).name}"
    assert (SIDECAR / name).is_file()
    assert not own.exists(), "it has a test file now: take it out of TESTED_ELSEWHERE"
    assert (ROOT / "tests" / TESTED_ELSEWHERE[name].partition(":")[0]).is_file()


def test_the_project_speaks_of_itself_alone() -> None:
    # Folders that belong to whoever wrote it, and marks of what is not done.
    place = re.compile(r"(?<![\w./*])/(?:root|home|Users|work|workspace)/\w")
    undone = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if place.search(line) or undone.search(line) or str(ROOT) + "/" in line
    ]
    assert not found
