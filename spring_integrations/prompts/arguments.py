"""What callers give as prompts, passages and questions: checked in one place, with the way out in the error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spring_integrations.errors import ArgumentsError, PromptError
from spring_integrations.passages import Passage


def check_question(question: str) -> str:
    """Returns the question.

    Raises:
        ArgumentsError: if it is not a string.
        PromptError: if it is empty.
    """
    if not isinstance(question, str):
        msg = f"the question must be a str, got {_shown(question)}"
        raise ArgumentsError(msg)
    if not question.strip():
        msg = f"the question is empty ({question!r}); ask something"
        raise PromptError(msg)
    return question


def check_passages(passages: Sequence[Passage | str], question: str, call: str) -> Sequence[Passage | str]:
    """Returns the passages.

    Args:
        passages: what was given as passages.
        question: what was given as the question, to see whether the two are swapped.
        call: how the arguments go, for the message.

    Raises:
        ArgumentsError: unless they are a sequence of passages and strings.
    """
    if _is_list(passages):
        for number, passage in enumerate(passages, 1):
            if not isinstance(passage, Passage | str):
                msg = f"a passage must be a Passage or a str, got {_shown(passage)} as number {number}"
                raise ArgumentsError(msg)
        return passages
    if isinstance(passages, str) and not isinstance(question, str):
        msg = f"passages and question are swapped: call {call}, got {_shown(passages)} for the passages"
    else:
        msg = f"passages must be a list of Passage or str, got {_shown(passages)}; give [passage] for one: {call}"
    raise ArgumentsError(msg)


def check_answers(answers: Any) -> list[str]:
    """Returns answers to be scored as a list.

    Args:
        answers: what was given.

    Raises:
        ArgumentsError: if they are one string, which would be taken letter by letter, or no strings.
    """
    if isinstance(answers, str):
        msg = f"answers must be a list of strings, got the string {answers!r}; give [{answers!r}] for one"
        raise ArgumentsError(msg)
    return _list_of(answers, (str,), "an answer")


def check_prompts(prompts: Any, kinds: tuple[type, ...]) -> list[Any]:
    """Returns prompts as a list: one prompt, or an iterable of them.

    Args:
        prompts: what was given.
        kinds: what a prompt can be.

    Raises:
        ArgumentsError: if one of them is none of these.
    """
    return [prompts] if isinstance(prompts, kinds) else _list_of(prompts, kinds, "a prompt")


def _list_of(given: Any, kinds: tuple[type, ...], what: str) -> list[Any]:
    names = " or a ".join(kind.__name__ for kind in kinds)
    if not isinstance(given, Iterable) or isinstance(given, bytes | bytearray | Mapping):
        msg = f"{what} must be a {names}, got {_shown(given)}"
        raise ArgumentsError(msg)
    listed = list(given)
    for number, one in enumerate(listed, 1):
        if not isinstance(one, kinds):
            msg = f"{what} must be a {names}, got {_shown(one)} as number {number} of {len(listed)}"
            raise ArgumentsError(msg)
    return listed


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:60] + '…'}"
