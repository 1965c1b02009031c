"""Where in a message a string stands: the path of the n-th leaf.

The leaves are counted as `mcp.message.leaves` lists them. This is asked only
after a hit, so that a clean message pays nothing for it. A path holds bits of
the message's keys, cut short and with control characters escaped, and never a value.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

_MAX_STEPS: Final = 16
_MAX_KEY: Final = 48

_Step: TypeAlias = str | int
# A container, the step that leads to it, and the index of the place that holds it.
_Place: TypeAlias = tuple[Any, _Step, int]


def path_of(value: object, index: int) -> str:
    """Return the path of leaf *index* of a parsed *value*: `$.params.arguments.text[2]`.

    `$.params{key 3}` is the third key of `$.params`: a key that holds a
    pattern is not shown. Raises LookupError if there are not so many leaves.
    """
    places: list[_Place] = [([value], "", -1)]
    for here, (container, _, _) in enumerate(places):
        if type(container) is dict:
            if index < len(container):
                return f"{_write(places, here)}{{key {index + 1}}}"
            index -= len(container)
            children: Any = container.items()
        else:
            children = enumerate(container)
        for step, child in children:
            kind = type(child)
            if kind is str:
                if index == 0:
                    return _write(places, here, step)
                index -= 1
            elif kind is dict or kind is list:
                places.append((child, step, here))
    raise LookupError(f"{index} leaves too few")


def _write(places: list[_Place], here: int, *last: _Step) -> str:
    steps: list[_Step] = list(last)
    while here > 0:
        _, step, here = places[here]
        steps.append(step)
    # The outermost step only leads into the list that `path_of` starts from.
    inner = steps[-2::-1]
    written = "".join(_step(step) for step in inner[:_MAX_STEPS])
    return f"${written}{'...' if len(inner) > _MAX_STEPS else ''}"


def _step(step: _Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    key = step if len(step) <= _MAX_KEY else step[:_MAX_KEY] + "..."
    if key.isascii() and key.replace("_", "a").isalnum():
        return f".{key}"
    return f"[{key!a}]"
