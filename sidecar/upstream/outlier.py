"""Outlier detection: endpoints that keep failing leave balancing for a time.

The algorithm is Envoy's (`outlier_detection_impl.cc`, 1.28 and later): runs of
failures are found inline, rates at a sweep, and only a sweep lets an endpoint
return. It is told the time and handed its randomness; it knows no connection,
no pool and no clock. An `Outlier` outlives the configuration: see `replace`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf, sqrt
from typing import Final, TypeAlias

from .endpoint import Endpoint, OutlierSpec


class Kind(StrEnum):
    """What was found; the words are Envoy's, as its counters end."""

    CONSECUTIVE_5XX = "consecutive_5xx"
    CONSECUTIVE_GATEWAY_FAILURE = "consecutive_gateway_failure"
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE = "consecutive_local_origin_failure"
    SUCCESS_RATE = "success_rate"
    LOCAL_ORIGIN_SUCCESS_RATE = "local_origin_success_rate"
    FAILURE_PERCENTAGE = "failure_percentage"
    LOCAL_ORIGIN_FAILURE_PERCENTAGE = "local_origin_failure_percentage"


class Outcome(StrEnum):
    """What became of an attempt that brought no HTTP status, or before it brought one."""

    CONNECTED = "connect_success"
    CONNECT_FAILED = "connect_failed"
    TIMEOUT = "timeout"
    RESET = "reset"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Action(StrEnum):
    """What was done about a finding."""

    EJECTED = "ejected"
    NOT_ENFORCED = "not_enforced"
    OVERFLOW = "overflow"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Event:
    """One change worth a line in the log; `kind` is None for a return."""

    at: float
    address: str
    action: Action
    kind: Kind | None
    ejections: int


Events: TypeAlias = tuple[Event, ...]

_GATEWAY: Final = frozenset({502, 503, 504})

# Times are floats: what is this much short of a whole term, in seconds, has served it.
_ROUNDING: Final = 1e-6
_MOST_LATE: Final = 63  # sweeps that are caught up with

# Without the split, an attempt of ours that failed counts as the status it will cause.
_AS_STATUS: Final = {
    Outcome.CONNECT_FAILED: 503,
    Outcome.RESET: 503,
    Outcome.TIMEOUT: 504,
    Outcome.FAILED: 500,
}


class Outlier:
    """The detector of one cluster. `spec` None means that nothing is ever ejected.

    `rand` gives floats in [0, 1): it decides enforcement percentages and jitter.
    """

    def __init__(
        self, spec: OutlierSpec | None, endpoints: Iterable[Endpoint], rand: Callable[[], float]
    ) -> None:
        self._spec = spec
        self._enforcing = _enforcing(spec)
        self._errors = _errors(spec)
        self._rand = rand
        self._known: dict[str, Endpoint] = {one.address: one for one in endpoints}
        self._due = -inf
        self._active = 0
        self._overflow = 0
        self._found_of: Counter[Kind] = Counter()
        self._enforced_of: Counter[Kind] = Counter()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of the cluster, the ejected ones among them."""
        return tuple(self._known.values())

    def statistics(self) -> dict[str, int]:
        """Return a snapshot of the counters, under Envoy's names.

        `ejections_total` counts every finding that was not an overflow's, of
        any kind and enforced or not. `ejections_active` is a gauge.
        """
        counters = {
            "ejections_active": self._active,
            "ejections_overflow": self._overflow,
            "ejections_total": self._found_of.total() - self._overflow,
            "ejections_enforced_total": self._enforced_of.total(),
        }
        for kind in Kind:
            counters[f"ejections_detected_{kind}"] = self._found_of[kind]
            counters[f"ejections_enforced_{kind}"] = self._enforced_of[kind]
        return counters

    def replace(
        self, spec: OutlierSpec | None, endpoints: Iterable[Endpoint]
    ) -> tuple[Endpoint, ...]:
        """Take a new configuration; return the endpoints to balance over from now on.

        An address that stays keeps its `Endpoint`, so its ejection, its runs
        and the calls in flight go on; weight and labels become the new ones.
        Whoever left is forgotten: later reports on it change nothing.
        """
        known: dict[str, Endpoint] = {}
        for new in endpoints:
            kept = self._known.get(new.address, new)
            kept.weight, kept.labels = new.weight, new.labels
            known[new.address] = kept
        self._spec, self._known = spec, known
        self._enforcing = _enforcing(spec)
        self._errors = _errors(spec)
        if spec is None:
            for endpoint in known.values():
                endpoint.ejected = False
                endpoint.clear_runs()
        self._active = sum(endpoint.ejected for endpoint in known.values())
        return self.endpoints

    # Reports

    def report_status(self, endpoint: Endpoint, status: int, now: float) -> Events:
        """Count a reply's HTTP status; return what came of it, mostly nothing.

        Whatever is no 5xx is a success here, 4xx too, unless the spec names its errors.
        """
        if self._errors:
            status = _judged(status, self._errors)
        if status < 500 or status > 599:
            endpoint.good += 1
            endpoint.run_5xx = endpoint.run_gateway = 0
            return ()
        return self._error(endpoint, status, now)

    def _error(self, endpoint: Endpoint, status: int, now: float) -> Events:
        endpoint.bad += 1
        if self._spec is None:
            return ()
        return self._gateway_run(endpoint, status, now) + self._run_of_5xx(endpoint, now)

    def report_local(self, endpoint: Endpoint, outcome: Outcome, now: float) -> Events:
        """Count an attempt of ours that brought no status; return what came of it.

        Without the split each outcome counts as the HTTP status it will cause,
        and `CONNECTED` as nothing, because the reply is still to come. With the
        split, report `CONNECTED` for every call that got a connection: nothing
        else ends a run of local failures.
        """
        if self._spec is None:
            return ()
        if self._spec.split_external_local_origin_errors:
            return self._report_split(endpoint, outcome, now)
        if outcome is Outcome.CONNECTED:
            return ()
        if outcome is Outcome.SUCCEEDED:
            return self.report_status(endpoint, 200, now)
        return self._error(endpoint, _AS_STATUS[outcome], now)

    def _report_split(self, endpoint: Endpoint, outcome: Outcome, now: float) -> Events:
        if outcome is Outcome.FAILED:
            return self._error(endpoint, 503, now)
        if outcome is Outcome.CONNECTED or outcome is Outcome.SUCCEEDED:
            endpoint.local_good += 1
            endpoint.run_local = 0
            if outcome is Outcome.CONNECTED:
                return ()
            return self.report_status(endpoint, 200, now)
        endpoint.local_bad += 1
        return self._local_run(endpoint, now)

    # Runs. A run that was found starts again, enforced or not; while its endpoint
    # is out it only grows, and the return clears it.

    def _gateway_run(self, endpoint: Endpoint, status: int, now: float) -> Events:
        if status not in _GATEWAY:
            endpoint.run_gateway = 0
            return ()
        endpoint.run_gateway += 1
        limit = self._rules.consecutive_gateway_failure
        if not 0 < limit <= endpoint.run_gateway or not self._is_in(endpoint):
            return ()
        endpoint.run_gateway = 0
        return (self._found(endpoint, Kind.CONSECUTIVE_GATEWAY_FAILURE, now),)

    def _run_of_5xx(self, endpoint: Endpoint, now: float) -> Events:
        endpoint.run_5xx += 1
        limit = self._rules.consecutive_5xx
        if not 0 < limit <= endpoint.run_5xx or not self._is_in(endpoint):
            return ()
        endpoint.run_5xx = 0
        return (self._found(endpoint, Kind.CONSECUTIVE_5XX, now),)

    def _local_run(self, endpoint: Endpoint, now: float) -> Events:
        endpoint.run_local += 1
        limit = self._rules.consecutive_local_origin_failure
        if not 0 < limit <= endpoint.run_local or not self._is_in(endpoint):
            return ()
        endpoint.run_local = 0
        return (self._found(endpoint, Kind.CONSECUTIVE_LOCAL_ORIGIN_FAILURE, now),)

    # Ejection

    @property
    def _rules(self) -> OutlierSpec:
        assert self._spec is not None, "nothing is detected without a spec"
        return self._spec

    def _is_in(self, endpoint: Endpoint) -> bool:
        return not endpoint.ejected and self._known.get(endpoint.address) is endpoint

    def _found(self, endpoint: Endpoint, kind: Kind, now: float) -> Event:
        self._found_of[kind] += 1
        if not self._may_eject():
            self._overflow += 1
            action = Action.OVERFLOW
        elif self._enforcing[kind] <= self._rand() * 100:
            action = Action.NOT_ENFORCED
        else:
            self._enforced_of[kind] += 1
            self._eject(endpoint, now)
            action = Action.EJECTED
        return Event(now, endpoint.address, action, kind, endpoint.ejections)

    def _may_eject(self) -> bool:
        # The candidate is counted in: of three, one is 33.3 % and not "the first".
        if self._rules.always_eject_one_host and not self._active:
            return True
        percent = 100.0 * (self._active + 1) / len(self._known)
        return percent <= self._rules.max_ejection_percent

    def _eject(self, endpoint: Endpoint, now: float) -> None:
        rules = self._rules
        self._active += 1
        endpoint.ejected, endpoint.ejected_at = True, now
        endpoint.ejections += 1
        endpoint.jitter = self._rand() * rules.max_ejection_time_jitter
        # The multiplier stops growing where growing would change nothing.
        longest = rules.max_ejection_time + rules.base_ejection_time
        if endpoint.multiplier * rules.base_ejection_time < longest:
            endpoint.multiplier += 1

    # Sweep

    def tick(self, now: float) -> Events:
        """Sweep once for each interval that has passed since the last sweep; for a coarse clock."""
        if self._spec is None or now < self._due:
            return ()
        late = (now - self._due) / self._spec.interval
        self._due = now + self._spec.interval
        sweeps = 0 if late == inf else 1 + int(min(late, _MOST_LATE))
        return tuple([event for _ in range(sweeps) for event in self.sweep(now)])

    def next_return(self, now: float) -> float:
        """Return the seconds until the first of the ejected has served its term, 0 if none is."""
        ends = [one.ejected_at + self._term(one) for one in self.endpoints if one.ejected]
        return max(0.0, min(ends) - now) if ends else 0.0

    def sweep(self, now: float) -> Events:
        """Do what is due once every `interval`: returns, rates, forgiveness."""
        if self._spec is None:
            return ()
        events = [self._return(one, now) for one in self.endpoints if self._has_served(one, now)]
        events += self._judge_rates(now)
        for endpoint in self._known.values():
            healthy_for = now - endpoint.returned_at + _ROUNDING
            if not endpoint.ejected and healthy_for >= self._spec.interval:
                endpoint.multiplier = max(0, endpoint.multiplier - 1)
        return tuple(events)

    def _has_served(self, endpoint: Endpoint, now: float) -> bool:
        served = now - endpoint.ejected_at + _ROUNDING
        return endpoint.ejected and self._term(endpoint) <= served

    def _term(self, endpoint: Endpoint) -> float:
        rules = self._rules
        term = min(rules.base_ejection_time * endpoint.multiplier, rules.max_ejection_time)
        return term + endpoint.jitter

    def _return(self, endpoint: Endpoint, now: float) -> Event:
        self._active -= 1
        endpoint.ejected, endpoint.returned_at = False, now
        endpoint.clear_runs()
        return Event(now, endpoint.address, Action.RETURNED, None, endpoint.ejections)

    def _judge_rates(self, now: float) -> list[Event]:
        members = self.endpoints
        replies = [_Tally(one, one.good, one.bad) for one in members]
        attempts = [_Tally(one, one.local_good, one.local_bad) for one in members]
        for one in members:
            one.good = one.bad = one.local_good = one.local_bad = 0
        return [
            *self._judge(replies, Kind.SUCCESS_RATE, Kind.FAILURE_PERCENTAGE, now),
            *self._judge(
                attempts,
                Kind.LOCAL_ORIGIN_SUCCESS_RATE,
                Kind.LOCAL_ORIGIN_FAILURE_PERCENTAGE,
                now,
            ),
        ]

    def _judge(self, tallies: list[_Tally], rate: Kind, percentage: Kind, now: float) -> Events:
        tallies = [tally for tally in tallies if not tally.endpoint.ejected and tally.calls]
        findings = [(rate, one) for one in self._below_the_rest(tallies)]
        findings += [(percentage, one) for one in self._mostly_failing(tallies)]
        # Who is found twice is ejected once.
        return tuple(
            self._found(endpoint, kind, now) for kind, endpoint in findings if not endpoint.ejected
        )

    def _below_the_rest(self, tallies: list[_Tally]) -> list[Endpoint]:
        rules = self._rules
        busy = [tally for tally in tallies if tally.calls >= rules.success_rate_request_volume]
        if not busy or len(busy) < rules.success_rate_minimum_hosts:
            return []
        mean = sum(tally.rate for tally in busy) / len(busy)
        stdev = sqrt(sum((tally.rate - mean) ** 2 for tally in busy) / len(busy))
        threshold = mean - rules.success_rate_stdev_factor / 1000 * stdev
        return [tally.endpoint for tally in busy if tally.rate < threshold]

    def _mostly_failing(self, tallies: list[_Tally]) -> list[Endpoint]:
        rules = self._rules
        volume = rules.failure_percentage_request_volume
        busy = [tally for tally in tallies if tally.calls >= volume]
        if len(busy) < rules.failure_percentage_minimum_hosts:
            return []
        threshold = rules.failure_percentage_threshold
        return [tally.endpoint for tally in busy if 100 - tally.rate >= threshold]


@dataclass(frozen=True, slots=True)
class _Tally:
    """What one endpoint did between two sweeps."""

    endpoint: Endpoint
    good: int
    bad: int

    @property
    def calls(self) -> int:
        return self.good + self.bad

    @property
    def rate(self) -> float:
        """Successes in percent; asked only of who was called."""
        return 100.0 * self.good / self.calls


def _errors(spec: OutlierSpec | None) -> frozenset[int]:
    """The statuses that alone are errors, if there are any."""
    return frozenset() if spec is None else spec.errors


def _judged(status: int, errors: frozenset[int]) -> int:
    """Return what *status* counts as where *errors* alone are errors (Envoy's `error_matcher`)."""
    if status not in errors:
        return 200
    return status if 500 <= status <= 599 else 500


def _enforcing(spec: OutlierSpec | None) -> dict[Kind, int]:
    if spec is None:
        return {}
    return {
        Kind.CONSECUTIVE_5XX: spec.enforcing_consecutive_5xx,
        Kind.CONSECUTIVE_GATEWAY_FAILURE: spec.enforcing_consecutive_gateway_failure,
        Kind.CONSECUTIVE_LOCAL_ORIGIN_FAILURE: spec.enforcing_consecutive_local_origin_failure,
        Kind.SUCCESS_RATE: spec.enforcing_success_rate,
        Kind.LOCAL_ORIGIN_SUCCESS_RATE: spec.enforcing_local_origin_success_rate,
        Kind.FAILURE_PERCENTAGE: spec.enforcing_failure_percentage,
        Kind.LOCAL_ORIGIN_FAILURE_PERCENTAGE: spec.enforcing_failure_percentage_local_origin,
    }
