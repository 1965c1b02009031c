"""All clusters, and the one door to them: a lease for a permit.

`Clusters.lease` takes a Permit and nothing else, so a call that no rule allowed
has no way to a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..policy.verdict import Permit, Refusal
from ..upstream.cluster import ClusterSpec
from .cluster import Cluster
from .lease import NO_ENDPOINT, Lease
from .means import Means
from .names import Names
from .wake import Wake


class Clusters:
    """All clusters by name."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._clusters: dict[str, Cluster] = {}
        self._names = Names(means.tasks, means.look_up, self._moved)

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    def replace(self, specs: Iterable[ClusterSpec]) -> None:
        """Take the clusters of a new snapshot; those that stay keep all their state."""
        now = self._means.now()
        specs = tuple(specs)
        self._names.follow(specs)
        old, self._clusters = self._clusters, {}
        for spec in specs:
            cluster = old.pop(spec.name, None)
            if cluster is None:
                cluster = Cluster(spec, self._means, now, self._names.of)
            else:
                cluster.replace(spec, now)
            self._clusters[spec.name] = cluster
        for gone in old.values():
            gone.close()

    async def prepare(self, specs: Iterable[ClusterSpec]) -> None:
        """Look up the names of *specs* that are new, before `replace` puts them to use."""
        await self._names.learn(specs)

    def _moved(self, name: str) -> None:
        """A name has other addresses now."""
        for cluster in self:
            if any(one.resolve and one.address == name for one in cluster.spec.endpoints):
                cluster.refresh(self._means.now())

    def lease(
        self,
        permit: Permit,
        cluster: str,
        wake: Wake,
        avoid: Sequence[str] = (),
        key: bytes | None = None,
        at: str = "",
        again: bool = False,
        http2: bool = False,
    ) -> Lease | Refusal:
        """Lend a connection to the call that *permit* allows; at addresses not in *avoid*.

        Calls of one *key* go to one endpoint; with *at* the call goes to that address or
        nowhere. *again* says that it is a retry, *http2* that the caller speaks it. Raises
        TypeError without a permit: there is no other key to an upstream.
        """
        if type(permit) is not Permit:
            raise TypeError("a lease takes a Permit and nothing else")
        known = self._clusters.get(cluster)
        if known is None:  # a reload took it away while the call waited
            return NO_ENDPOINT
        return known.lease(wake, avoid, self._means.now(), key, at, again, http2)

    @property
    def random(self) -> Callable[[], float]:
        """What draws a chance, from 0 up to 1."""
        return self._means.random

    def count(self, cluster: str, what: str) -> None:
        """Add one to the counter *what* of *cluster*."""
        self._clusters[cluster].counters[what] += 1

    def may_retry(self, cluster: str, *, again: bool = False) -> bool:
        """Whether *cluster* has budget for one more retry, *again* in place of one that failed.

        Whoever may tells by `redeem` that its pause is over.
        """
        known = self._clusters.get(cluster)
        return known is not None and known.may_retry(again=again)

    def redeem(self, cluster: str) -> None:
        """A retry to *cluster* that was allowed begins now, or will not come."""
        known = self._clusters.get(cluster)
        if known is not None:
            known.redeem()

    def has(self, cluster: str, address: str) -> bool:
        """Whether *address* is an endpoint of *cluster*."""
        known = self._clusters.get(cluster)
        return known is not None and address in known.endpoints

    def addresses(self, cluster: str) -> tuple[str, ...]:
        """Return where calls to *cluster* go."""
        return tuple(self._clusters[cluster].endpoints)

    def judge_again(self) -> None:
        """Close the connections to servers that nobody may believe any more."""
        for cluster in self:
            cluster.judge_again()

    def sweep(self, now: float) -> None:
        """Let ejected endpoints return whose time is over, and look names up anew."""
        self._names.tick(now)
        for cluster in self:
            self._means.tell(cluster.spec.name, cluster.outlier.tick(now))
