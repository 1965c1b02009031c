"""Which documents `sidecar authz check` judges by, for which workload of which mesh.

Documents are those a sidecar would load. What a bootstrap would say beside them comes
from one among them, from flags, or from what the documents themselves agree on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from ..config.bootstrap import Compat, DefaultAction, Sidecar
from ..config.documents import (
    AuthorizationPolicy,
    Document,
    MtlsMode,
    PeerAuthentication,
    RequestAuthentication,
)
from ..config.files import load
from ..config.kinds import members, read_document
from ..config.loaded import Loaded
from ..config.metadata import DEFAULT_NAMESPACE, name_of, namespace_of
from ..config.parse import parse
from ..config.problem import ConfigError, Level, Notes, Problem
from ..config.report import render
from ..config.unchecked import unchecked
from ..config.values import Malformed
from ..errors import IdentityError, StartError
from ..policy.path import Normalisation
from ..spiffe.id import parse_trust_domain
from .authz_judge import Judge
from .authz_request import unique

_BAD_CONFIGURATION: Final = 78
_USAGE: Final = 2
_FLAGS: Final = "<command line>"
_MOST_MESH: Final = 1_048_576  # bytes
_NOT_OURS: Final = "SC0901"
# What Istio's compiler leaves out (keys, addresses, ports), or takes for missing (what no
# filter says).
_TAKEN: Final = frozenset({"SC0404", "SC0406", "SC0407", "SC0422"})
# Whose namespaces and selectors tell which workload is meant, where nobody says it.
_OF_WORKLOADS: Final = (AuthorizationPolicy, PeerAuthentication, RequestAuthentication)


@dataclass(frozen=True, slots=True)
class Setup:
    """A bootstrap, real or made up, and the documents beside it."""

    bootstrap: Sidecar
    loaded: Loaded

    @property
    def trust_domain(self) -> str:
        """The trust domain that a short name is of."""
        return self.bootstrap.spec.trust_domain

    def judge(self) -> Judge:
        """Compile everything. Raises StartError with all that is wrong."""
        try:
            return Judge(self.bootstrap, self.loaded.documents)
        except ConfigError as error:
            raise _unsound(error.problems, self.loaded) from None

    def notes(self, more: Sequence[Problem]) -> str:
        """Return, for a person, whom this is about and what draws a warning."""
        meta = self.bootstrap.metadata
        labels = ",".join(f"{key}={value}" for key, value in meta.labels.items()) or "none"
        found = [one for one in (*self.loaded.problems, *more) if one.code != _NOT_OURS]
        others = sum(one.code == _NOT_OURS for one in more)
        said = render(found, self.loaded.sources) if found else ""
        if others:
            said += (
                f"note: {others} of the documents are not for this workload "
                f"(namespace {meta.namespace}, labels {labels})\n"
            )
        return said


def prepared(
    paths: Sequence[str],
    workload: str,
    labels: str | None,
    mesh: str | None,
    compat: str | None,
    *,
    recorded: bool = False,
) -> Setup:
    """Load *paths* for the workload that the flags name. Raises StartError.

    Requests that were *recorded* are judged by what Istio made of unsound values, too; a
    question is about documents that are to run, and those no sidecar would run.
    """
    settings = _mesh(mesh) if mesh is not None else {}
    namespace, name = _workload(workload)
    lenient = recorded and compat is not None
    loaded = _loaded(paths, {}, lenient)
    if loaded.bootstrap is None and not loaded.errors:
        root = str(settings.get("root_namespace", ""))
        namespace = namespace or _only_namespace(loaded.documents, root)
        loaded = _loaded(paths, {_FLAGS: _made_up(namespace, name)}, lenient)
    bootstrap = loaded.bootstrap
    if bootstrap is None or loaded.errors:
        raise _unsound(loaded.problems, loaded)
    metadata = bootstrap.metadata
    if workload:
        metadata = replace(metadata, namespace=namespace, name=name, labels={})
    if labels is not None:
        metadata = replace(metadata, labels=_labels(labels))
    elif not workload and not metadata.labels:
        metadata = replace(metadata, labels=_labels_of(loaded.documents, metadata.namespace))
    spec = replace(bootstrap.spec, **settings)
    if compat:
        spec = replace(
            spec,
            compat=Compat(compat),
            mtls=MtlsMode.PERMISSIVE,
            default_action=DefaultAction.ALLOW,
        )
    return Setup(replace(bootstrap, metadata=metadata, spec=spec), loaded)


def _loaded(paths: Sequence[str], given: Mapping[str, bytes], lenient: bool) -> Loaded:
    loaded = load(paths, given=given)
    return _as_istio_takes(loaded) if lenient and loaded.errors else loaded


def _as_istio_takes(loaded: Loaded) -> Loaded:
    """Return *loaded* with the policies that hold unsound values as Istio would take them.

    Where anything else is wrong, such as a field that is not known, it comes back as it is.
    """
    bootstrap = loaded.bootstrap
    namespace = DEFAULT_NAMESPACE if bootstrap is None else bootstrap.metadata.namespace
    taken: list[Document] = []
    for file in dict.fromkeys(one.where.file for one in loaded.errors):
        parsed = parse(Path(file).read_bytes(), file) if Path(file).is_file() else None
        if parsed is None or parsed.problems:
            return loaded
        for node in chain.from_iterable(map(members, parsed.documents)):
            notes = Notes()
            read_document(node, namespace, notes)
            policy = unchecked(node, namespace) if notes.errors else None
            if any(one.is_error and one.code not in _TAKEN for one in notes.problems):
                return loaded
            if policy is not None:
                taken.append(policy)
            elif notes.errors:
                return loaded
    mild = [replace(one, level=Level.WARNING) for one in loaded.problems]
    documents = (*loaded.documents, *taken)
    return replace(loaded, documents=documents, problems=tuple(mild)) if taken else loaded


def _unsound(problems: Iterable[Problem], loaded: Loaded) -> StartError:
    said = render(problems, loaded.sources, dropped=loaded.dropped)
    return StartError(f"the documents cannot be used\n{said.rstrip()}", code=_BAD_CONFIGURATION)


def _usage(message: str, help: str) -> StartError:
    return StartError(message, code=_USAGE, help=help)


# -- the workload


def _workload(text: str) -> tuple[str, str]:
    if not text:
        return "", "workload"
    namespace, slash, name = text.partition("/")
    try:
        namespace_of(namespace)
        if name and "/" not in name:
            name_of(name)
    except Malformed as error:
        raise _usage(f"`--workload {text}`: {error}", "write `--workload NS/NAME`") from None
    if not slash or not name or "/" in name:
        raise _usage(f"`--workload {text}` is not NS/NAME", "write `--workload mcp-prod/files`")
    return namespace, name


def _made_up(namespace: str, name: str) -> bytes:
    """Return a bootstrap for documents that come without one; nothing is ever called."""
    return json.dumps(
        {
            "apiVersion": "sidecar/v1",
            "kind": "Sidecar",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"inbound": [{"listen": "127.0.0.1:8443", "to": "http://127.0.0.1:9000"}]},
        }
    ).encode()


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, mark, value = pair.partition("=")
        if not mark or not key or key in found:
            raise _usage(f"`--labels {text}` is not K=V,K=V", "write `--labels app=b,version=v1`")
        found[key] = value
    return found


def _only_namespace(documents: Sequence[Document], root: str) -> str:
    """Return the namespace that all policies are of, less those of the root namespace."""
    policies = [one for one in documents if isinstance(one, _OF_WORKLOADS)]
    namespaces = dict.fromkeys(one.metadata.namespace for one in policies)
    own = [one for one in namespaces if one not in (root, "istio-system")] or list(namespaces)
    if len(own) > 1:
        raise _usage(
            f"the policies are of several namespaces: {', '.join(sorted(own)[:8])}",
            "name the server that is asked: `--workload NS/NAME`",
        )
    return own[0] if own else DEFAULT_NAMESPACE


def _labels_of(documents: Sequence[Document], namespace: str) -> Mapping[str, str]:
    """Return the labels that the selectors of the policies name, where they agree."""
    found: dict[str, str] = {}
    for one in documents:
        if isinstance(one, _OF_WORKLOADS) and one.metadata.namespace == namespace:
            for key, value in one.spec.selector.match_labels.items():
                if found.setdefault(key, value) != value:
                    raise _usage(
                        f"the policies are for several workloads: their selectors ask for "
                        f"`{key}={found[key]}` and for `{key}={value}`",
                        f"name the labels of the server that is asked: `--labels {key}={value}`",
                    )
    return found


# -- the mesh


def _mesh(path: str) -> dict[str, Any]:
    """Read the settings of a mesh from the JSON file *path*. Raises StartError."""
    try:
        with Path(path).open("rb") as file:
            value = json.loads(file.read(_MOST_MESH), object_pairs_hook=unique)
    except OSError as error:
        raise StartError(f"`{path}` cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _usage(f"`{path}` is not JSON: {error}", "write one object") from None
    if not isinstance(value, dict):
        raise _usage(f"`{path}` is not an object", f"it may hold {', '.join(_SETTINGS)}")
    odd = sorted(value.keys() - _SETTINGS.keys())
    if odd:
        raise _usage(f"`{path}`: `{odd[0]}` is not known", f"there are {', '.join(_SETTINGS)}")
    found: dict[str, Any] = {}
    for key, setting in value.items():
        if setting is None:
            continue
        field, read = _SETTINGS[key]
        try:
            found[field] = read(setting)
        except (TypeError, ValueError, Malformed, IdentityError) as error:
            raise _usage(f"`{path}`: `{key}`: {error}", "see `sidecar explain Sidecar`") from None
    return found


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("this is not a string")
    return value


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("this is not a list")
    return tuple(_string(one) for one in value)


def _mode(value: str) -> Normalisation:
    if value not in [mode.value for mode in Normalisation]:
        raise ValueError(f"`{value}` is none of {', '.join(Normalisation)}")
    return Normalisation(value)


_SETTINGS: Final[Mapping[str, tuple[str, Any]]] = {
    "rootNamespace": ("root_namespace", lambda value: namespace_of(_string(value))),
    "trustDomain": ("trust_domain", lambda value: parse_trust_domain(_string(value))),
    "trustDomainAliases": (
        "trust_domain_aliases",
        lambda value: tuple(parse_trust_domain(one) for one in _strings(value)),
    ),
    "spaceDelimitedClaims": ("spaced_claims", _strings),
    "pathNormalization": ("path_normalization", lambda value: _mode(_string(value))),
}
