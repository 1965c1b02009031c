"""Which way a call goes: its route, its session's server, what belongs together.

A session of the legacy era lives in one server's memory, so its calls go where it
began, by whatever route, as long as that server is there. What is found is a `Way`;
nothing is sent here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .config.snapshot import Service
from .mcp.methods import is_modern
from .net.clusters import Clusters
from .net.lease import GONE
from .policy.call import Call
from .policy.verdict import Reason, Refusal
from .upstream.affinity import By, HashOn, point
from .upstream.edit import Edit
from .upstream.route import Action, Asked, Destination, Way
from .upstream.sessions import Binding
from .upstream.text import TextMatch

if TYPE_CHECKING:
    from .exchange import World

SESSION: Final = b"mcp-session-id"
_VERSION: Final = b"mcp-protocol-version"

NO_ROUTE: Final = Refusal(
    Reason.UPSTREAM, "no route", status=404, detail="no route of its VirtualService matches"
)


def find_way(call: Call, service: Service, world: World, life: float) -> Way | Refusal:
    """Return how *call* goes to *service*, or why it goes nowhere.

    *life* is how many seconds an unused session is remembered. Raises PathError where a
    rewritten path would lead elsewhere.
    """
    action, match = service.way.action, None
    if service.routes is not None:
        found = service.routes.find(_asked(call))
        if found is None:
            return NO_ROUTE
        action, match = found
    session, clusters = _session(call), world.clusters
    if not session:
        one = action.destination(clusters.random())
        if one.hash_on is None and service.routes is None:
            return service.way
        return _to(one, action, match, call, clusters)
    for one in action.destinations:
        binding = world.sessions.find(one.host, session, world.now(), life)
        if binding is not None:
            home = _home(one, binding, action, service, clusters)
            if home is None:
                return GONE
            chosen = next((d for d in action.destinations if d.cluster == home), one)
            at = binding.address
            return _to(chosen, action, match, call, clusters, session, cluster=home, at=at)
    # Nobody knows where it began, as after a restart: all its calls go to one server, which
    # either knows it or has its client begin anew.
    one = action.destination(point(session))
    return _to(one, action, match, call, clusters, session, key=session)


def _asked(call: Call) -> Asked:
    message = call.message
    return Asked(
        call.method,
        call.path,
        call.query,
        call.host,
        call.port,
        call.headers,
        call.peer.principal,
        call.remote_ip or call.peer.ip,
        None if message is None else message.method or None,
        None if message is None else message.tool,
    )


def _session(call: Call) -> bytes:
    """Return the id of the legacy session that *call* is of; the stateless era has none."""
    found = b""
    for name, value in call.headers:
        if name == SESSION:
            found = value
        elif name == _VERSION and is_modern(value.decode("latin-1")):
            return b""
    return found


def _to(
    one: Destination,
    action: Action,
    match: TextMatch | None,
    call: Call,
    clusters: Clusters,
    session: bytes = b"",
    *,
    cluster: str = "",
    at: str = "",
    key: bytes | None = None,
) -> Way:
    """Return the way to *one* destination, or to another *cluster* in its place."""
    given = None
    if one.hash_on is not None and not session:
        key, given = _key(one.hash_on, _asked(call), clusters)
    path, authority = "", one.authority
    if action.rewrite is not None:
        path = action.rewrite.path(call.path, match) if action.rewrite.uri else ""
        authority = action.rewrite.authority or authority
    return Way(
        action,
        cluster or one.cluster,
        one.host,
        key,
        at,
        path,
        authority,
        _these(one.request, action.request),
        _these(one.reply, action.reply, given),
        session,
    )


def _these(*edits: Edit | None) -> tuple[Edit, ...]:
    return tuple([edit for edit in edits if edit is not None])


def _key(on: HashOn | None, asked: Asked, clusters: Clusters) -> tuple[bytes | None, Edit | None]:
    """Return what is hashed of the call, and the field that gives a caller its cookie."""
    if on is None:
        return None, None
    key = on.key(asked)
    if key is not None or on.by is not By.COOKIE or on.life is None:
        return key, None
    value = f"{int(clusters.random() * 2**53):014x}"
    return value.encode(), Edit(add=((b"set-cookie", on.set_cookie(value)),))


def _home(
    one: Destination, binding: Binding, action: Action, service: Service, clusters: Clusters
) -> str | None:
    """Return the cluster through which a session's server is reached, while that is there."""
    if clusters.has(binding.cluster, binding.address):
        return binding.cluster
    names = [other.cluster for other in action.destinations if other.host == one.host]
    if one.host == service.way.host:
        names.append(service.cluster)
    return next((name for name in names if clusters.has(name, binding.address)), None)
