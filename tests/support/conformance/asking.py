"""How the fixture server asks its client something in the stateless era.

A result says what is missing; the client sends the call again with answers, and
with the state it was given. State is sealed by the SDK's boundary, so a state
that comes back changed never arrives here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

Answers = Mapping[str, Any]
Outcome = str | types.InputRequiredResult


def _form(message: str, field: str, kind: str = "string") -> types.ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=schema)
    )


def _model(question: str) -> types.CreateMessageRequest:
    content = types.TextContent(type="text", text=question)
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(
            messages=[types.SamplingMessage(role="user", content=content)], max_tokens=100
        )
    )


_ROOTS = types.ListRootsRequest(params=types.RequestParams())


def required(state: str | None = None, **asked: Any) -> types.InputRequiredResult:
    """Return a result that asks for all of *asked*, by key."""
    return types.InputRequiredResult(input_requests=asked or None, request_state=state)


def field(answers: Answers, key: str, name: str) -> Any:
    """Return the field *name* of the form that was filled in for *key*, or None."""
    content = getattr(answers.get(key), "content", None)
    return content.get(name) if isinstance(content, dict) else None


def ask_context(answers: Answers) -> Outcome:
    context = field(answers, "user_context", "context")
    if context is None:
        return required(user_context=_form("Which context should the prompt have?", "context"))
    return f"A prompt about {context}."


def _elicitation(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    name = field(params.input_responses or {}, "user_name", "name")
    if name is None:
        return required(user_name=_form("What is your name?", "name"))
    return f"Hello, {name}!"


def _sampling(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    answer = (params.input_responses or {}).get("capital_question")
    if answer is None:
        return required(capital_question=_model("What is the capital of France?"))
    return f"The model said: {getattr(getattr(answer, 'content', None), 'text', '')}"


def _roots(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    answer = (params.input_responses or {}).get("client_roots")
    if answer is None:
        return required(client_roots=_ROOTS)
    return "Roots: " + ", ".join(str(root.uri) for root in getattr(answer, "roots", []))


def _confirm(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    confirmed = field(params.input_responses or {}, "confirm", "ok")
    if confirmed is None or params.request_state != "confirming":
        return required("confirming", confirm=_form("Please confirm", "ok", "boolean"))
    return f"state-ok, and the answer is {confirmed}"


def _several(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    answers = params.input_responses or {}
    if params.request_state != "several" or not {"user_name", "greeting", "client_roots"} <= set(
        answers
    ):
        return required(
            "several",
            user_name=_form("What is your name?", "name"),
            greeting=_model("Generate a greeting"),
            client_roots=_ROOTS,
        )
    return f"All answered, by {field(answers, 'user_name', 'name')}"


def _rounds(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    answers, state = params.input_responses or {}, params.request_state
    name, colour = field(answers, "step1", "name"), field(answers, "step2", "color")
    if state and state.startswith("name:") and colour is not None:
        return f"{state.removeprefix('name:')} likes {colour}"
    if state == "asked" and name is not None:
        return required(f"name:{name}", step2=_form("Which colour do you like best?", "color"))
    return required("asked", step1=_form("What is your name?", "name"))


def _capable(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Outcome:
    """Ask only what the client says it can do."""
    has = ctx.session.client_capabilities or types.ClientCapabilities()
    asked: dict[str, Any] = {}
    if has.elicitation is not None:
        asked["user_name"] = _form("What is your name?", "name")
    if has.sampling is not None:
        asked["greeting"] = _model("Generate a greeting")
    if params.input_responses or not asked:
        return "Nothing more to ask"
    return required(**asked)


ASKING: dict[str, Callable[[ServerRequestContext[Any], types.CallToolRequestParams], Outcome]] = {
    "test_input_required_result_elicitation": _elicitation,
    "test_input_required_result_sampling": _sampling,
    "test_input_required_result_list_roots": _roots,
    "test_input_required_result_request_state": _confirm,
    "test_input_required_result_tampered_state": _confirm,
    "test_input_required_result_multiple_inputs": _several,
    "test_input_required_result_multi_round": _rounds,
    "test_input_required_result_capabilities": _capable,
    "test_streaming_elicitation": _elicitation,
}
