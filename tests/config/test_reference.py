from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.codes import CODES
from sidecar.config.kinds import KINDS, LATER_KINDS
from sidecar.config.reference import (
    codes_page,
    documents_page,
    explained_code,
    explained_kind,
    topics,
)

PAGES = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(
    ("page", "made"), [("documents", documents_page), ("error-codes", codes_page)]
)
def test_the_pages_of_the_reference_are_not_stale(page: str, made: object) -> None:
    assert callable(made)
    written = (PAGES / f"{page}.md").read_text()
    assert written == made(), f"run `sidecar explain --page {page} > docs/reference/{page}.md`"


def test_every_kind_is_on_the_page_with_its_fields() -> None:
    page = documents_page()
    for kind in (*KINDS, *LATER_KINDS):
        assert kind.name in page
    for field in (
        "spec.limits.requestBodyBytes",
        "spec.rules[].to[].operation.tools",
        "spec.portLevelMtls.<port>.mode",
        "spec.trafficPolicy.connectionPool.http.h2UpgradePolicy",
        "mcp.argumentPaths[…]",
    ):
        assert f"`{field}`" in page


def test_a_code_is_explained_with_its_title() -> None:
    said = explained_code("SC0204")
    assert said.startswith("SC0204: unknown field\n\n")
    assert max(map(len, said.splitlines())) <= 100
    with pytest.raises(KeyError):
        explained_code("SC9999")


def test_a_kind_is_explained_with_its_fields() -> None:
    said = explained_kind("PeerAuthentication")
    assert "spec.mtls.mode  (`STRICT` or `PERMISSIVE`" in said
    with pytest.raises(KeyError):
        explained_kind("Gateway")


def test_the_topics_list_everything() -> None:
    said = topics()
    assert all(code in said for code in CODES)
    assert all(kind.name in said for kind in KINDS)
