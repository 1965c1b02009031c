"""Bytes to one JSON-RPC message, strictly, and what that message acts on.

What two parsers could read differently is refused: duplicate and look-alike
keys, NaN and infinity, NUL, a byte order mark, lone surrogates, too deep a
nesting, a second value. So the bytes that were judged mean the same to whoever
reads them next. Nothing here knows HTTP, sessions or rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from jiter import from_json

from ..errors import MessageError
from . import twins
from .methods import METHODS, NOTIFICATIONS, Method, is_modern, is_session, version_of

Kind: TypeAlias = Literal["request", "notification", "response"]
Id: TypeAlias = str | int | None
JsonObject: TypeAlias = dict[str, object]

REQUEST: Final = "request"
NOTIFICATION: Final = "notification"
RESPONSE: Final = "response"

NOT_JSON: Final = -32700
NOT_A_MESSAGE: Final = -32600
BAD_PARAMS: Final = -32602

MAX_DEPTH: Final = 64
MAX_NAME: Final = 256
MAX_URI: Final = 4096
MAX_SUBSCRIPTIONS: Final = 1024
# Between `leaves`: a leaf cannot hold it, because NUL is refused.
SEPARATOR: Final = "\0"

# What a subscription may ask for without naming anything.
_NEWS: Final = frozenset({"toolsListChanged", "promptsListChanged", "resourcesListChanged"})
_NAMES: Final = frozenset({"name", "uri", "taskId"})
_FOLDED_METHODS: Final = {twins.fold(name): name for name in METHODS}


@dataclass(slots=True)
class Message:
    """One JSON-RPC message; made by `parse`, never changed afterwards.

    `tool`, `prompt`, `resource` and `task` are what the method acts on, None where
    it acts on no such thing. `targets` are the resources a subscription names, each
    to be authorised.
    """

    kind: Kind
    id: Id
    method: str
    params: JsonObject
    value: JsonObject
    tool: str | None = None
    prompt: str | None = None
    resource: str | None = None
    task: str | None = None
    targets: tuple[str, ...] = ()
    arguments: JsonObject | None = None

    @property
    def session(self) -> bool:
        """Whether this is a session's own traffic rather than a use of something.

        A subscription that only asks whether lists have changed is what GET was before.
        """
        if self.method == "subscriptions/listen":
            filters = self.params.get("notifications")
            return filters is None or (type(filters) is dict and filters.keys() <= _NEWS)
        return self.kind is RESPONSE or is_session(self.method)


def parse(body: bytes, max_depth: int = MAX_DEPTH) -> Message:
    """Return the one JSON-RPC 2.0 message that *body* is.

    *max_depth* counts nested objects and arrays, the outermost being 1 (200 at most:
    the parser's own bound). Raises `MessageError` with -32700 (not strict JSON),
    -32600 (no JSON-RPC message) or -32602 (it does not name what it acts on).
    """
    value = _load(body)
    if type(value) is not dict:
        raise MessageError(_not_an_object(value), NOT_A_MESSAGE)
    _prove(body, value, max_depth)
    if value.get("jsonrpc") != "2.0":
        twins.VERSION.refuse_twins(value)
        raise MessageError('`jsonrpc` is not "2.0"', NOT_A_MESSAGE)
    if not value.keys() <= twins.MESSAGE.known:
        twins.MESSAGE.refuse_twins(value)
    if "method" in value:
        return _calling(value)
    return _response(value)


def parse_value(body: bytes, max_depth: int = MAX_DEPTH) -> object:
    """Return the JSON value that *body* is, as strictly read as a message, whatever it says.

    Raises `MessageError` with -32700.
    """
    value: object = _load(body)
    _prove(body, value, max_depth)
    return value


def refused_id(body: bytes) -> Id:
    """Return the id of a *body* that `parse` refused, None where none can be told.

    A refusal answers to the id it can (JSON-RPC 2.0, section 5); never asked of a
    message that is forwarded.
    """
    try:
        return _id(_load(body)["id"])
    except (MessageError, LookupError, TypeError):
        return None


def leaves(value: object) -> str:
    """Return every string in a parsed *value*, keys too, joined by `SEPARATOR`.

    Outer values come before inner ones, and of an object first its keys, then its
    values. Raises `MessageError` if a string holds NUL.
    """
    found: list[str] = []
    # The list grows while it is walked: whoever is in it will have its children added.
    containers: list[Any] = [[value]]
    for container in containers:
        if type(container) is dict:
            found += container
            container = container.values()
        for child in container:
            kind = type(child)
            if kind is str:
                found.append(child)
            elif kind is dict or kind is list:
                containers.append(child)
    text = SEPARATOR.join(found)
    if found and text.count(SEPARATOR) >= len(found):
        raise MessageError("a string holds NUL", NOT_JSON)
    return text


def _prove(body: bytes, value: object, max_depth: int) -> None:
    """Prove what the parser that made *value* of *body* does not.

    Raises `MessageError` if a string holds NUL, a number is not finite, or objects and
    arrays are nested deeper than *max_depth*.
    """
    # NUL as it stands is no JSON. As an escape it is written in one way; most have no escape.
    if b"\\" in body and b"\\u0000" in body:
        leaves(value)
    # The list grows while it is walked: whoever is in it will have its containers added.
    containers: list[Any] = [value.values()] if type(value) is dict else [[value]]
    for container in containers:
        for child in container:
            kind = type(child)
            if kind is str:
                continue
            if kind is dict:
                containers.append(child.values())
            elif kind is list:
                containers.append(child)
            elif kind is float and child - child != 0.0:
                raise MessageError("a number is too large to be finite", NOT_JSON)
    # Only more containers than levels can be too deep.
    if len(containers) > max_depth and _is_deeper(value, max_depth):
        raise MessageError(f"nested deeper than {max_depth} levels", NOT_JSON)


def _is_deeper(value: object, max_depth: int) -> bool:
    level: list[Any] = [[value]]
    for _ in range(max_depth + 1):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _load(body: bytes) -> Any:
    try:
        return from_json(body, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys")
    except ValueError as error:
        if body.startswith(b"\xef\xbb\xbf"):
            raise MessageError("not JSON: begins with a byte order mark", NOT_JSON) from None
        raise MessageError(f"not strict JSON: {str(error)[:200]}", NOT_JSON) from None


def _not_an_object(value: object) -> str:
    if type(value) is list:
        return "an array is no message: only version 2025-03-26 has batches"
    return "a message is a JSON object"


def _id(value: object) -> str | int:
    """An id is a string or a whole number; `1.0`, which some servers make of `1`, is 1."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    raise MessageError("`id` is neither a string nor a whole number", NOT_A_MESSAGE)


def _response(value: JsonObject) -> Message:
    if ("result" in value) == ("error" in value):
        raise MessageError(
            "no `method`, and not exactly one of `result` and `error`", NOT_A_MESSAGE
        )
    if "params" in value:
        raise MessageError("a response has no `params`", NOT_A_MESSAGE)
    words, outcome = (
        (twins.RESULT, value["result"]) if "result" in value else (twins.ERROR, value["error"])
    )
    if type(outcome) is not dict:
        raise MessageError(f"{words.place} is not an object", NOT_A_MESSAGE)
    words.refuse_twins(outcome)
    message_id = value.get("id")
    # JSON-RPC 2.0, section 5: an error about a message whose id nobody could read has none.
    if message_id is not None or words is twins.RESULT:
        message_id = _id(message_id)
    return Message(RESPONSE, message_id, "", {}, value)


def _calling(value: JsonObject) -> Message:
    """Read a request or a notification and what it acts on."""
    method = value["method"]
    known = METHODS.get(method) if type(method) is str else None
    if type(method) is not str or (known is None and not (method and method.isprintable())):
        raise MessageError("`method` is not a string of printable characters", NOT_A_MESSAGE)
    if "result" in value or "error" in value:
        raise MessageError("`method` beside `result` or `error`", NOT_A_MESSAGE)
    if "id" in value:
        kind: Kind = REQUEST
        given = value["id"]
        message_id: Id = given if type(given) is int else _id(given)
    else:
        kind = NOTIFICATION
        message_id = None
    if known is None or kind is NOTIFICATION:
        _check_kind(kind, method, known)
    words = twins.PARAMS if known is None else twins.KNOWN_PARAMS
    message = Message(kind, message_id, method, _params(value, words), value)
    if known is None or known.subject == "nothing":
        return message
    # As nearly always, it is no method that a later version has dropped.
    if known.modern or not _is_gone(message):
        _name(message, known)
    return message


def _is_gone(message: Message) -> bool:
    """Whether a modern request names nothing, for a method that only older versions have.

    That no such method is left is then what its caller must hear, from the server.
    """
    if message.params.keys() & _NAMES:
        return False
    version = version_of(message.params)
    return type(version) is str and is_modern(version)


def _check_kind(kind: Kind, method: str, known: Method | None) -> None:
    if known is not None:
        if kind is NOTIFICATION:
            raise MessageError(f"`{method}` is a request and needs an `id`", NOT_A_MESSAGE)
        return
    twin = _FOLDED_METHODS.get(twins.fold(method))
    if twin is not None:
        raise MessageError(f"the method looks like `{twin}` but is not it", NOT_A_MESSAGE)
    if kind is REQUEST and method.startswith(NOTIFICATIONS):
        raise MessageError("a notification has no `id`", NOT_A_MESSAGE)


def _params(value: JsonObject, words: twins.Words) -> JsonObject:
    params = value.get("params")
    if params is None:
        return {}
    if type(params) is not dict:
        raise MessageError("`params` is not an object", NOT_A_MESSAGE)
    if not params.keys() <= words.known:
        words.refuse_twins(params)
    return params


def _name(message: Message, known: Method) -> None:
    """Fill in what *message* acts on, by the table's word for it."""
    params = message.params
    match known.subject:
        case "tool":
            message.tool = _text(params, "name", known, MAX_NAME)
            message.arguments = _arguments(params, known)
        case "prompt":
            message.prompt = _text(params, "name", known, MAX_NAME)
            message.arguments = _arguments(params, known)
        case "resource":
            message.resource = _text(params, "uri", known, MAX_URI)
        case "task":
            message.task = _text(params, "taskId", known, MAX_NAME)
        case "reference":
            _refer(message, known)
        case "subscriptions":
            message.targets = _subscriptions(params, known)


def _text(fields: JsonObject, key: str, known: Method, limit: int) -> str:
    text = fields.get(key)
    if type(text) is str and 0 < len(text) <= limit and text.isprintable():
        return text
    raise MessageError(
        f"`{known.name}` needs `{key}`: a string of 1 to {limit} printable characters", BAD_PARAMS
    )


def _arguments(params: JsonObject, known: Method) -> JsonObject | None:
    arguments = params.get("arguments")
    if arguments is None or type(arguments) is dict:
        return arguments
    raise MessageError(f"`arguments` of `{known.name}` is not an object", BAD_PARAMS)


def _refer(message: Message, known: Method) -> None:
    reference = message.params.get("ref")
    if type(reference) is not dict:
        raise MessageError(f"`{known.name}` needs `ref`: an object", BAD_PARAMS)
    twins.REFERENCE.refuse_twins(reference)
    match reference.get("type"):
        case "ref/prompt":
            message.prompt = _text(reference, "name", known, MAX_NAME)
        case "ref/resource":
            message.resource = _text(reference, "uri", known, MAX_URI)
        case _:
            raise MessageError(
                f"`ref.type` of `{known.name}` is neither `ref/prompt` nor `ref/resource`",
                BAD_PARAMS,
            )


def _subscriptions(params: JsonObject, known: Method) -> tuple[str, ...]:
    notifications = params.get("notifications")
    if notifications is None:
        return ()
    if type(notifications) is not dict:
        raise MessageError(f"`notifications` of `{known.name}` is not an object", BAD_PARAMS)
    twins.SUBSCRIPTIONS.refuse_twins(notifications)
    wanted = notifications.get("resourceSubscriptions")
    if wanted is None:
        return ()
    if type(wanted) is not list or len(wanted) > MAX_SUBSCRIPTIONS:
        raise MessageError(
            f"`resourceSubscriptions` is not an array of at most {MAX_SUBSCRIPTIONS}", BAD_PARAMS
        )
    key = "resourceSubscriptions[]"
    return tuple(_text({key: uri}, key, known, MAX_URI) for uri in wanted)
