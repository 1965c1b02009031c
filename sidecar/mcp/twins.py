"""Keys that some reader could take for a word of the protocol although they are not it.

Go's encoding/json matches keys without regard to case, and the official Python
SDK reads `resource_subscriptions` as `resourceSubscriptions`: where we would
judge one key and the server obey its twin, the message is refused. It knows keys
alone, neither values nor rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..errors import MessageError

# A key longer than this folds to no word, whatever it holds; it bounds the work.
_LONGEST: Final = 64
_BRIDGES: Final = str.maketrans("", "", "_-\u0307")


def fold(key: str) -> str:
    """Return the form in which look-alikes are equal, empty for a key too long to be one.

    Undone are case, width, ligatures, white space around, `_` and `-`. `upper` goes
    before `casefold`, because Java takes the dotless U+0131 for `i` that way; the dot
    U+0307 is what remains of U+0130.
    """
    key = key.strip()
    if len(key) > _LONGEST:
        return ""
    if not key.isascii():
        key = unicodedata.normalize("NFKC", key).upper().casefold().strip()
    return key.lower().translate(_BRIDGES)


def same_but_for_case(key: str, word: str) -> bool:
    """Whether some reader that ignores case takes *key* for *word*, which it is not."""
    return key != word and _caseless(key) == _caseless(word)


def _caseless(key: str) -> str:
    # As in `fold`: Go takes U+017F for `s` and U+212A for `k`, Java U+0131 for `i`.
    return key.lower() if key.isascii() else key.upper().casefold().replace("\u0307", "")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one place in a message: `guarded` ones bear no twin beside them.

    `plain` words are known and harmless; they only spare the common message the
    folding of its keys.
    """

    place: str
    guarded: frozenset[str]
    plain: frozenset[str] = frozenset()
    known: frozenset[str] = field(init=False)
    _folded: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", self.guarded | self.plain)
        object.__setattr__(self, "_folded", {fold(word): word for word in self.guarded})

    def twin(self, keys: Iterable[str]) -> tuple[str, str] | None:
        """Return the first of *keys* that looks like a guarded word, and that word."""
        for key in keys:
            if key not in self.known:
                word = self._folded.get(fold(key))
                if word is not None:
                    return key, word
        return None

    def refuse_twins(self, keys: Mapping[str, object]) -> None:
        """Raise `MessageError` if one of *keys* looks like a guarded word without being it."""
        if keys.keys() <= self.known:
            return
        found = self.twin(keys)
        if found is not None:
            key, word = found
            raise MessageError(
                f"the key {key[:_LONGEST]!a} in {self.place} looks like `{word}` but is not it"
            )


_ENVELOPE: Final = frozenset(
    {"jsonrpc", "id", "method", "params", "name", "arguments", "uri", "result", "error"}
)
MESSAGE: Final = Words("the message", _ENVELOPE)
VERSION: Final = Words("the message", frozenset({"jsonrpc"}))
# `params` of a method that nobody here knows may hold words of its own.
PARAMS: Final = Words("`params`", _ENVELOPE)
KNOWN_PARAMS: Final = Words(
    "`params`",
    _ENVELOPE | {"_meta", "notifications", "protocolVersion", "ref", "taskId"},
    frozenset(
        {
            *("argument", "capabilities", "clientInfo", "context", "cursor", "data", "level"),
            *("inputResponses", "logger", "message", "progress", "progressToken", "reason"),
            *("requestId", "requestState", "task", "total"),
        }
    ),
)
RESULT: Final = Words(
    "`result`",
    frozenset(
        {"tools", "prompts", "resources", "resourceTemplates", "cacheScope", "inputRequests"}
    ),
    frozenset(
        {
            *("_meta", "capabilities", "completion", "content", "contents", "description"),
            *("instructions", "isError", "messages", "nextCursor", "protocolVersion"),
            *("requestState", "resultType", "serverInfo", "structuredContent", "ttlMs"),
        }
    ),
)
ERROR: Final = Words("`error`", frozenset({"code", "message", "data"}))
REFERENCE: Final = Words("`ref`", frozenset({"type", "name", "uri"}))
SUBSCRIPTIONS: Final = Words("`notifications`", frozenset({"resourceSubscriptions"}))
