"""What the upstream layer costs a call: one report of its status, one pick."""

from __future__ import annotations

from random import Random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sidecar.upstream.balance import Algorithm, Balancer
from sidecar.upstream.endpoint import Endpoint, OutlierSpec
from sidecar.upstream.outlier import Outlier


def cluster(size: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{i}:80") for i in range(size)]


@pytest.mark.parametrize("status", [200, 503])
def test_report_a_status(benchmark: BenchmarkFixture, status: int) -> None:
    endpoints = cluster(3)
    outlier = Outlier(OutlierSpec(), endpoints, Random(1).random)
    benchmark(outlier.report_status, endpoints[0], status, 1.0)


@pytest.mark.parametrize("size", [1, 3, 10])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_pick(benchmark: BenchmarkFixture, algorithm: Algorithm, size: int) -> None:
    balancer = Balancer(algorithm, Random(1).random)
    benchmark(balancer.pick, cluster(size), 1.0)


def test_sweep_a_hundred(benchmark: BenchmarkFixture) -> None:
    outlier = Outlier(OutlierSpec(), cluster(100), Random(1).random)
    benchmark(outlier.sweep, 1.0)
