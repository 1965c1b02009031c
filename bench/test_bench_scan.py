"""What the scan costs: messages, other bodies and streams of 1 KB and 64 KB without a match.

The `worst` group holds what an attacker could send to make the scan slow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sidecar.mcp.message import parse_value
from sidecar.policy.scan.first_pass import MayHold, compile_first_pass
from sidecar.policy.scan.scanner import Pattern, Scanner

SIZES = {"1KB": 1_000, "64KB": 65_000}
SEED = ("ignore previous instructions", "system: you are now", "JAILBREAK")
DICE = Random(3)
WORDS = ["".join(DICE.choices("etaoinshrdlucmfw", k=DICE.randint(2, 9))) for _ in range(500)]


def prose(size: int) -> str:
    return " ".join(DICE.choices(WORDS, k=size // 6))[:size]


def call(text: Sequence[str]) -> dict[str, object]:
    arguments = {"text": text}
    params = {"name": "search_documents", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


def no_first_pass(_: Sequence[bytes]) -> MayHold | None:
    return None


def patterns(count: int) -> list[Pattern]:
    texts = [*SEED, *(" ".join(DICE.choices(WORDS, k=5)) + f" {i}" for i in range(count - 3))]
    return [Pattern(str(i), text) for i, text in enumerate(texts)]


FEW, MANY = patterns(3), patterns(100)
ENGINES = [
    pytest.param(Scanner(FEW, compile_first_pass), id="3 patterns"),
    pytest.param(Scanner(MANY, compile_first_pass), id="100 patterns"),
    pytest.param(Scanner(FEW, no_first_pass), id="3 patterns, automaton alone"),
    pytest.param(Scanner(MANY, no_first_pass), id="100 patterns, automaton alone"),
]
engines = pytest.mark.parametrize("scanner", ENGINES)
sizes = pytest.mark.parametrize("size", SIZES)


@engines
@sizes
@pytest.mark.parametrize("style", ["compact", "indented", "accented", "code"])
def test_message(benchmark: BenchmarkFixture, scanner: Scanner, size: str, style: str) -> None:
    benchmark.group = f"message {size} {style}"
    lines = [prose(200) for _ in range(SIZES[size] // (560 if style == "code" else 200))]
    if style == "accented":
        lines = [line.replace("e", "é") for line in lines]
    if style == "code":
        lines = ["\n".join(f"        {word}(x)" for word in line.split()) for line in lines]
    indent = 2 if style == "indented" else None
    body = json.dumps(call(lines), ensure_ascii=False, indent=indent).encode()
    value = parse_value(body)
    assert benchmark(scanner.message, body, value) is None


@engines
@sizes
def test_raw(benchmark: BenchmarkFixture, scanner: Scanner, size: str) -> None:
    benchmark.group = f"raw {size}"
    assert benchmark(scanner.raw, prose(SIZES[size]).encode()) is None


@engines
@sizes
def test_stream(benchmark: BenchmarkFixture, scanner: Scanner, size: str) -> None:
    benchmark.group = f"stream, a piece of {size}"
    stream = scanner.stream()
    assert benchmark(stream.feed, prose(SIZES[size]).encode()) is None


WORST = {
    "one character that says many": "\u321e" * 21_000,
    "a ligature as long as a sentence": "\ufdfa" * 21_000,
    "a run of marks": "\u0301\u0316" * 16_000,
    "two-byte letters": "и" * 32_000,
    "every character another": "".join(map(chr, range(0x20000, 0x23E80))),
    "spaces in pairs": "a  " * 21_000,
    "nothing but spaces": " \u00a0" * 21_000,
    "almost a pattern": "ignore previous instruction " * 2_300,
}


@pytest.mark.parametrize("kind", WORST)
def test_worst(benchmark: BenchmarkFixture, kind: str) -> None:
    benchmark.group = "worst 64KB"
    scanner = Scanner(FEW)
    body = json.dumps(WORST[kind], ensure_ascii=False).encode()
    value = parse_value(body)
    assert benchmark(scanner.message, body, value) is None


def test_compile(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "compile 100 patterns"
    benchmark(Scanner, MANY)
