"""How the client of the conformance suite logs in: OAuth without a person.

The suite's authorization servers answer a visit with the redirect that a browser
would follow; the code in it is all that is wanted.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)

REDIRECT = "http://localhost:3030/callback"
# The document's address that the suite's servers know; nothing is fetched from it.
CLIENT_DOCUMENT = "https://conformance-test.local/client-metadata.json"


class MemoryStorage(TokenStorage):
    """Tokens and the client's registration, for one run."""

    def __init__(self, client: OAuthClientInformationFull | None) -> None:
        self._client, self._tokens = client, None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


class Visit:
    """One visit to an authorization endpoint, and what came of it."""

    def __init__(self) -> None:
        self._answer: dict[str, str] = {}

    async def go(self, url: str) -> None:
        async with httpx2.AsyncClient(trust_env=False) as http:
            response = await http.get(url, follow_redirects=False)
        query = parse_qs(urlsplit(response.headers["location"]).query)
        self._answer = {name: values[0] for name, values in query.items()}

    async def answer(self) -> AuthorizationCodeResult:
        got = self._answer
        return AuthorizationCodeResult(
            code=got.get("code", ""), state=got.get("state"), iss=got.get("iss")
        )


def login(url: str, context: dict[str, Any]) -> OAuthClientProvider:
    """Return what logs in at the server at *url*; *context* may hold a registration."""
    metadata = OAuthClientMetadata(
        redirect_uris=[REDIRECT],
        client_name="conformance",
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
    )
    known = None
    if "client_id" in context:
        known = OAuthClientInformationFull(
            client_id=context["client_id"],
            client_secret=context.get("client_secret"),
            redirect_uris=[REDIRECT],
            token_endpoint_auth_method="client_secret_basic",
        )
    visit = Visit()
    return OAuthClientProvider(
        url, metadata, MemoryStorage(known), visit.go, visit.answer, CLIENT_DOCUMENT
    )
