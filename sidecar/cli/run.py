"""`sidecar run`: the daemon, from a file or in its short form.

Prints where it listens and who may call, then serves until it is told to stop.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..ca.revocations import REVOKED
from ..config.bootstrap import BundleEndpoint, Identity, Sidecar
from ..config.documents import FileRef
from ..config.files import load
from ..config.loaded import Loaded
from ..config.paths import beside
from ..config.problem import ConfigError, Problem
from ..config.report import render
from ..config.snapshot import compile_snapshot
from ..errors import StartError
from ..plan import Plan
from ..remote.ca_enrolment import RemoteCa
from ..remote.ca_federation import Endpoint
from ..rotation import IdentitySpec
from ..spiffe.id import DEFAULT_TRUST_DOMAIN
from . import place

HELP: Final = "run the sidecar in front of a server"
_SHELL: Final = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "-c", "--config", metavar="FILE", help="the bootstrap, a document of kind Sidecar"
    )
    what.add_argument("--to", metavar="URL", help="the server: http://HOST:PORT or unix:/PATH")
    what.add_argument(
        "--stdio", metavar="CMD", help='the server, as a program to start: "uvx mcp-server-git"'
    )
    short = parser.add_argument_group("with --to or --stdio")
    short.add_argument(
        "--as",
        dest="name",
        metavar="NS/SA",
        default="default/server",
        help="the identity to have (default/server)",
    )
    short.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:8443",
        help="where to listen (127.0.0.1:8443)",
    )
    short.add_argument(
        "--allow",
        metavar="NS/SA",
        action="append",
        default=[],
        help="who may call: NS/SA or NS/*; may be given again",
    )
    short.add_argument(
        "--documents",
        metavar="PATH",
        action="append",
        default=[],
        help="a file or folder of policies; may be given again",
    )
    short.add_argument(
        "--admin", metavar="ADDRESS", default="", help="where the admin pages listen"
    )


def run(args: argparse.Namespace) -> int:
    """Run until told to stop; returns the exit code."""
    import uvloop

    from ..app import App  # `check` reads configurations with this module, and serves nothing

    sources = Sources()
    make = from_file(args.config, sources) if args.config else _from_flags(args, sources)
    try:
        uvloop.run(App(make, sources.render, os.environ).run())
    except ConfigError as error:
        print(sources.render(error), file=sys.stderr, end="")
        return 78
    return 0


class Sources:
    """The texts of the last load, so that a problem can show its line."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None

    def take(self, loaded: Loaded) -> Loaded:
        """Remember *loaded*; raise ConfigError if it has errors."""
        self._loaded = loaded
        if loaded.errors:
            raise ConfigError(loaded.problems)
        return loaded

    def render(self, error: ConfigError) -> str:
        """Return what is wrong, with excerpts."""
        return self.shown(error.problems)

    def shown(self, problems: Sequence[Problem]) -> str:
        """Return *problems* for a person; nothing if there are none."""
        if not problems or self._loaded is None:
            return ""
        color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        return render(problems, self._loaded.sources, color=color)


def from_file(config: str, sources: Sources) -> Callable[[], Plan]:
    """Return what loads the bootstrap *config*; it raises ConfigError or StartError."""
    path = Path(config)

    def make() -> Plan:
        loaded = sources.take(load([str(path)]))
        if loaded.bootstrap is None:
            raise StartError(
                f"`{path}` holds no document of kind `Sidecar`",
                code=78,
                help="name the bootstrap with `-c`; policies are named in its `documents`",
            )
        lent = place.seen_from(path.absolute(), os.environ)
        return _plan(
            loaded.bootstrap, loaded, sources, _identity(loaded.bootstrap, str(path), lent)
        )

    return make


def _from_flags(args: argparse.Namespace, sources: Sources) -> Callable[[], Plan]:
    namespace, _, account = args.name.partition("/")
    if not namespace or not account or "/" in account:
        raise StartError(f"`--as {args.name}` is not NS/SA", code=2, help="write `--as mcp/files`")

    def make() -> Plan:
        text = _bootstrap_text(args, namespace, account)
        given = {"<command line>": text.encode()}
        loaded = sources.take(load(args.documents, given=given))
        assert loaded.bootstrap is not None
        identity = IdentitySpec(
            Path("certs", namespace, account),
            f"{namespace}/{account}",
            Path("certs", "ca"),
            loaded.bootstrap.spec.trust_domain,
            names=_names(loaded.bootstrap),
            makes_ca=True,
            denied=Path("certs", "ca", REVOKED),
        )
        return _plan(loaded.bootstrap, loaded, sources, identity)

    return make


def _bootstrap_text(args: argparse.Namespace, namespace: str, account: str) -> str:
    """Return the documents that the flags stand for. JSON strings are YAML strings."""
    from json import dumps

    server = {"to": args.to} if args.stdio is None else {"stdio": {"command": _words(args.stdio)}}
    spec = {
        "inbound": [{"listen": args.listen, **server}],
        **({"admin": {"listen": args.admin}} if args.admin else {}),
    }
    bootstrap = {
        "apiVersion": "sidecar/v1",
        "kind": "Sidecar",
        "metadata": {"name": account, "namespace": namespace},
        "spec": spec,
    }
    documents = [dumps(bootstrap)]
    if args.allow:
        source = [{"source": {"principals": [_principal(one) for one in args.allow]}}]
        policy = {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "allow", "namespace": namespace},
            "spec": {"action": "ALLOW", "rules": [{"from": source}]},
        }
        documents.append(dumps(policy))
    return "\n---\n".join(documents)


def _words(command: str) -> list[str]:
    """Return the words of `--stdio CMD`, quoted as for a shell; there is none that reads them."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise StartError(
            f"`--stdio {command}` cannot be read: {str(error).lower()}",
            code=2,
            help="close every quote",
        ) from None
    odd = [word for word in words if word in _SHELL or word.startswith(("$(", "`"))]
    if odd or not words:
        wrong = f"has `{odd[0]}`, and no shell reads it" if odd else "is empty"
        raise StartError(
            f"`--stdio {command}` {wrong}",
            code=2,
            help="write a program and its arguments, or start a shell: `sh -c '...'`",
        )
    return words


def _principal(short: str) -> str:
    """Return what `--allow NS/SA` or `--allow NS/*` means as a principal pattern."""
    namespace, _, account = short.partition("/")
    if not namespace or not account or "/" in account or "*" in namespace:
        raise StartError(
            f"`--allow {short}` is neither NS/SA nor NS/*",
            code=2,
            help="write `--allow agent/alice`",
        )
    return f"{DEFAULT_TRUST_DOMAIN}/ns/{namespace}/sa/{account}"


def _identity(bootstrap: Sidecar, config: str, lent: Mapping[str, str]) -> IdentitySpec | None:
    spec, own = bootstrap.spec, bootstrap.spec.identity
    account = spec.service_account or bootstrap.metadata.name
    name = f"{bootstrap.metadata.namespace}/{account}"
    others = spec.trust_bundles.items()
    told = IdentitySpec(
        Path(own.certs),
        bundles=tuple((name, Path(one.path)) for name, one in others if isinstance(one, FileRef)),
        endpoints=tuple(
            (name, _endpoint(one)) for name, one in others if isinstance(one, BundleEndpoint)
        ),
        max_age=own.max_age,
    )
    if own.is_remote:
        return replace(
            told,
            folder=_kept(bootstrap, config, place.state(lent)),
            name=name,
            trust_domain=spec.trust_domain,
            remote=_remote(own, place.credential(lent, place.JOIN_TOKEN)),
        )
    if own.certs:
        return replace(told, denied=Path(own.revocations) if own.revocations else None)
    if own.ca:
        ca = Path(own.ca)
        return replace(
            told,
            folder=ca.parent / bootstrap.metadata.namespace / account,
            name=name,
            ca=ca,
            trust_domain=spec.trust_domain,
            names=_names(bootstrap),
            denied=ca / REVOKED,
        )
    return None


def _kept(bootstrap: Sidecar, config: str, state: Path | None) -> Path:
    """Return where the identity is kept: in the *state* that is lent, unless told otherwise."""
    own = bootstrap.spec.identity.certs
    usual = f"certs/{bootstrap.metadata.namespace}/{bootstrap.metadata.name}"
    if state is None or own != beside(config, usual):
        return Path(own)
    return state / usual


def _remote(own: Identity, lent: Path | None) -> RemoteCa:
    if own.token_file or lent is None:
        return RemoteCa(own.ca, Path(own.token_file) if own.token_file else None, own.max_age)
    return RemoteCa(own.ca, lent, own.max_age, lent=True)


def _endpoint(written: BundleEndpoint) -> Endpoint:
    bootstrap = None if written.bootstrap is None else Path(written.bootstrap.path)
    return Endpoint(written.url, written.spiffe_id, bootstrap)


def _names(bootstrap: Sidecar) -> tuple[str, ...]:
    """Return what an ordinary client may call this machine: what it listens on, and itself."""
    names = dict.fromkeys(("localhost", "127.0.0.1", "::1", socket.gethostname()))
    for inbound in bootstrap.spec.inbound:
        if inbound.listen.ip not in ("0.0.0.0", "::"):  # noqa: S104 - asked about, not bound
            names[inbound.listen.ip] = None
    return tuple(name for name in names if name)


def _plan(
    bootstrap: Sidecar, loaded: Loaded, sources: Sources, identity: IdentitySpec | None
) -> Plan:
    snapshot = compile_snapshot(bootstrap, loaded.documents)
    spec = bootstrap.spec
    return Plan(
        snapshot,
        identity,
        str(spec.admin.listen) if spec.admin.listen is not None else "",
        spec.log.access,
        bootstrap.metadata.name,
        sources.shown([*loaded.problems, *snapshot.warnings]),
        {str(one.to): one.stdio for one in spec.inbound if one.stdio is not None},
    )
