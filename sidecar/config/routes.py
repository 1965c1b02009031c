"""The ways of one service's calls: its VirtualService, compiled with the clusters it leads to.

A destination is a service or a subset of one; each becomes a cluster. A service
that no VirtualService names has one way, to its own cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..errors import Where
from ..upstream.cluster import ClusterSpec
from ..upstream.edit import Edit
from ..upstream.retry import RetryPolicy
from ..upstream.route import Action, Destination, Mirror, Route, Routes, Way
from .addresses import Target
from .clusters import cluster_of, nearest, rule_for
from .documents import DestinationRule, ServiceEntry, VirtualService
from .limits import Limits
from .problem import Notes, Place
from .traffic_specs import Goal, HttpRoute, Retries, WeightedGoal

_TWO_SERVICES: Final = "SC0904"
_NOWHERE: Final = "SC0905"
_NO_RETRY: Final = RetryPolicy(attempts=0)


@dataclass(frozen=True, slots=True)
class Ways:
    """Where a service's calls go: by `routes`, or all `straight`; and all their clusters."""

    straight: Way
    routes: Routes | None
    clusters: tuple[ClusterSpec, ...]

    @property
    def spread(self) -> bool:
        """Whether calls may go to more than one address."""
        return self.routes is not None or any(one.is_spread for one in self.clusters)


def for_each_host(
    documents: Iterable[VirtualService], notes: Notes
) -> tuple[tuple[str, VirtualService], ...]:
    """Return the VirtualServices by their hosts; a second one of a host is noted."""
    found: dict[str, VirtualService] = {}
    for document in documents:
        for written in document.spec.hosts:
            first = found.setdefault(written.lower(), document)
            if first is not document:
                notes.error(
                    _TWO_SERVICES,
                    f"a second VirtualService routes the calls to `{written}`",
                    Place(document.at),
                    why=f"the first is at {first.at}; which one counts would depend on the order",
                    help="join the two: the first route that matches decides",
                )
    return tuple(found.items())


class RouteCompiler:
    """Compiles the ways of services; what leads nowhere is noted where it is written."""

    def __init__(
        self,
        virtual_services: Iterable[VirtualService],
        entries: Sequence[ServiceEntry],
        rules: Sequence[DestinationRule],
        limits: Limits,
        notes: Notes,
    ) -> None:
        self._virtual_services = for_each_host(virtual_services, notes)
        self.entries = entries
        self.rules = rules
        self.limits = limits
        self.notes = notes
        self._used: set[Where] = set()

    def ways(self, target: Target, base: ClusterSpec, service: str) -> Ways:
        """Return the ways of the calls to *service*, which is at *target* and whole is *base*."""
        found = nearest(service, self._virtual_services)
        host = service.lower()
        own = (Destination(host, base.name, hash_on=base.hash_on),)
        if found is None:
            hashed = base.hash_on is not None
            # One address is the server itself, for which Istio has a policy of its own.
            retry = (
                RetryPolicy.of_inbound() if target.address else RetryPolicy.of_istio(hashed=hashed)
            )
            return Ways(Way(Action(own, retry), base.name, host), None, (base,))
        self._used.add(found.at)
        one = _Service(self, target, base, service)
        routes = Routes(tuple(one.route(written) for written in found.spec.http))
        one.add_subsets()
        return Ways(Way(Action(own), base.name, host), routes, tuple(one.clusters.values()))

    def note_unused(self) -> None:
        """Note each VirtualService that is for no service of ours."""
        for document in {one.at: one for _, one in self._virtual_services}.values():
            if document.at not in self._used:
                self.notes.warning(
                    "SC0906",
                    f"`{document.metadata.name}` routes no calls here",
                    Place(document.at),
                    why="none of its `hosts` is the `service` of an inbound, or another "
                    "VirtualService names that more exactly",
                    help="check `hosts` for a typing mistake",
                )


class _Service:
    """One service's routes while they are compiled."""

    def __init__(
        self, compiler: RouteCompiler, target: Target, base: ClusterSpec, service: str
    ) -> None:
        self._all = compiler
        self._target = target
        self._base = base
        self._service = service
        self.clusters = {base.name: base}

    def route(self, written: HttpRoute) -> Route:
        """Return *written* compiled."""
        if len(written.route) == 1:
            written = _single(written)
        destinations = tuple(self._destination(one) for one in written.route)
        mirrors = tuple(
            Mirror(self._cluster(one.goal, one.at).name, one.percent) for one in written.mirrors
        )
        hashed = len(destinations) == 1 and destinations[0].hash_on is not None  # as in Istio
        faulty = written.fault is not None
        action = Action(
            destinations,
            _NO_RETRY if faulty else _retry(written.retries, hashed=hashed),
            0.0 if faulty else written.timeout,
            mirrors,
            written.fault,
            written.rewrite,
            written.request,
            written.reply,
        )
        return Route(action, written.matches, written.name)

    def add_subsets(self) -> None:
        """Add all subsets: a session may live in one that no route leads to any more."""
        rule = rule_for(self._service, self._all.rules)
        for subset in rule.spec.subsets if rule is not None else ():
            try:
                self._made(Goal(self._service, subset.name))
            except ValueError:
                continue  # nobody is there, and nobody goes there

    def _destination(self, written: WeightedGoal) -> Destination:
        goal = written.goal
        cluster = self._cluster(goal, written.at)
        other = "" if self._is_own(goal) else _authority(goal)
        return Destination(
            goal.host.lower(),
            cluster.name,
            written.weight,
            cluster.hash_on,
            written.request,
            written.reply,
            other.encode("ascii"),
        )

    def _is_own(self, goal: Goal) -> bool:
        own = goal.host.lower() == self._service.lower()
        return own and goal.port in (0, self._target.port)

    def _cluster(self, goal: Goal, at: Where) -> ClusterSpec:
        """Return the cluster that *goal* means; note it where there is none."""
        try:
            return self._made(goal)
        except ValueError as error:
            self._all.notes.error(_NOWHERE, str(error), Place(at))
            return self._base

    def _made(self, goal: Goal) -> ClusterSpec:
        """Return the cluster of *goal*, made once: the whole service where no subset is named."""
        own, known = self._is_own(goal), self._all
        if own and not goal.subset:
            return self._base
        target = self._target if own else Target(goal.host, _authority(goal), port=goal.port)
        made = cluster_of(
            target,
            goal.host,
            known.entries,
            known.rules,
            known.limits,
            goal.subset,
            h2c=own and self._base.h2c,
        )
        whole = self._base.name if own else _authority(goal)
        made = replace(made, name=f"{whole}|{goal.subset}" if goal.subset else whole)
        return self.clusters.setdefault(made.name, made)


def _single(written: HttpRoute) -> HttpRoute:
    """Return a route of one destination with its edits in the order that Istio gives them.

    Of several, the one chosen edits before the route does, which therefore has the last word.
    A single one has the last word itself, and whatever either removes is removed before both.
    """
    (goal,) = written.route
    request, on_route = _in_turn(written.request, goal.request)
    reply, on_reply = _in_turn(written.reply, goal.reply)
    return replace(
        written,
        route=(replace(goal, request=request, reply=reply),),
        request=on_route,
        reply=on_reply,
    )


def _in_turn(first: Edit | None, then: Edit | None) -> tuple[Edit | None, Edit | None]:
    if first is None or then is None:
        return first, then
    return replace(first, remove=first.remove | then.remove), replace(then, remove=frozenset())


def _authority(goal: Goal) -> str:
    return f"{goal.host}:{goal.port}" if goal.port else goal.host


def _retry(written: Retries, *, hashed: bool) -> RetryPolicy:
    return RetryPolicy.of_istio(
        attempts=written.attempts,
        retry_on=written.retry_on,
        per_try_timeout=written.per_try_timeout,
        backoff=written.backoff,
        ignore_previous_hosts=written.ignore_previous_hosts,
        hashed=hashed,
        idempotent_tools=written.idempotent_tools,
    )
