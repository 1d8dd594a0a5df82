"""A chat to one prompt: turns through the tokenizer's chat template, with the boundary in the last human turn."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spring_integrations.chat.history import outgrown
from spring_integrations.errors import PromptError, ToolsError
from spring_integrations.prompts import MARK, RagPrompt, holds_context, mark_last_turn, neutralize_marked, remove_marks
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.model import SpringModel

_PROBE = "spring_probe"
_PROBE_ARGUMENT = "spring_probe_argument"
_WAY_OUT = "send a plain prompt (LangChain: SpringHFLLM, LlamaIndex: is_chat_model=False)"


@dataclass(frozen=True)
class Turn:
    """A message of a chat.

    Attributes:
        role: as chat templates name it: "system", "user", "assistant", "tool".
        content: its text; passages in it may be marked.
        extra: what else a template may read of it, such as "tool_calls" and "name".
    """

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CallFormat:
    """What a chat template writes around the JSON of a tool's call: opening, name, middle, arguments."""

    opening: str
    before_name: str
    before_arguments: str

    @classmethod
    def read(cls, written: str, scaffold: int = 0) -> CallFormat | None:
        """Reads the format from the call of a probe; None if that is not JSON with the name first.

        Of what is written before the call, the first `scaffold` characters open any answer.
        """
        before, _, after = written.partition(_PROBE)
        middle, argument, _ = after.partition(_PROBE_ARGUMENT)
        at, end = before.rfind("{"), middle.rfind("{")
        if at < 0 or end < 0 or not argument:
            return None
        return cls(before[scaffold:at].strip(), before, middle[:end].rstrip())

    def start(self, name: str | None) -> str:
        """Returns the beginning of a call: of one tool, or (None) of any."""
        return self.before_name if name is None else f"{self.before_name}{name}{self.before_arguments}"


class ChatTemplate:
    """Renders turns through the chat template of a model's tokenizer."""

    def __init__(self, model: SpringModel) -> None:
        """Keeps the model.

        Raises:
            PromptError: if its tokenizer has no chat template.
        """
        if not model.tokenizer.chat_template:
            msg = (
                f"the tokenizer of {model.name} has no chat template; use SpringHFLLM, which sends plain text, an "
                "instruct model, or set tokenizer.chat_template"
            )
            raise PromptError(msg)
        self._model = model

    @functools.cached_property
    def call_format(self) -> CallFormat | None:
        """How the template writes calls of tools; None where it knows no tools, or writes no JSON."""
        function = {"name": _PROBE, "description": _PROBE, "parameters": {"type": "object", "properties": {}}}
        call = {"type": "function", "id": "spring123", "function": {"name": _PROBE, "arguments": {_PROBE_ARGUMENT: 1}}}
        user, answer = Turn("user", "?"), Turn("assistant", "", {"tool_calls": [call]})
        tools = [{"type": "function", "function": function}]
        try:
            asked = self._apply([user], tools)
            answered = self._apply([user, answer], tools, answered=True)
            plain = self._apply([user, Turn("assistant", _PROBE)], tools, answered=True)
        except Exception:  # noqa: BLE001 - a template is a program of the model's author
            return None
        written = answered.removeprefix(asked)
        if _PROBE not in asked or written == answered:
            return None
        # Qwen3 opens every last answer, with or without a call, with an empty thought.
        same = itertools.takewhile(
            lambda pair: pair[0] == pair[1], zip(written, plain.removeprefix(asked), strict=False)
        )
        return CallFormat.read(written, len(list(same)))

    def check_tools(self) -> CallFormat:
        """Returns `call_format`.

        Raises:
            ToolsError: if the template has no tools.
        """
        if self.call_format is None:
            msg = (
                f"the chat template of {self._model.name} does not write tools as JSON, so the model cannot call any; "
                "use a model whose template does, or ask for JSON: with_structured_output(…, method='json_schema')"
            )
            raise ToolsError(msg)
        return self.call_format

    def prompt(self, turns: Sequence[Turn], *, tools: Sequence[Mapping[str, Any]] = (), answer: str = "") -> RagPrompt:
        """Returns the prompt for an answer to the turns.

        Args:
            turns: the chat so far.
            tools: descriptions of functions, in the form of OpenAI's API.
            answer: how the answer is to begin.

        Raises:
            PromptError: if there are no turns, or the template refuses them, or loses the boundary or
                what a system or user turn says.
        """
        if not turns:
            msg = "there are no messages to answer; give at least one user message"
            raise PromptError(msg)
        pairs, boundary = mark_last_turn([(t.role, self._harmless(t)) for t in turns], self._model.boundary_rule)
        marked = [replace(t, content=content) for t, (_, content) in zip(turns, pairs, strict=True)]
        text = self._render(marked, tools)
        parsed = RagPrompt.parse(text)
        wanted = sum(content.count(MARK) for _, content in pairs)
        if (boundary is None) != (parsed.boundary is None) or text.count(MARK) != wanted:
            msg = (
                f"the chat template of {self._model.name} does not keep the boundary between context and question; "
                + _WAY_OUT
            )
            raise PromptError(msg)
        if boundary is None:
            return RagPrompt(parsed.text + answer, "", None, rendered=True)
        return replace(parsed, after=parsed.after + answer, boundary=boundary, rendered=True)

    def fitting(self, turns: Sequence[Turn], room: int, k: int) -> list[Turn]:
        """Returns the turns without the oldest exchanges that do not fit the window; the system and the last user stay.

        Args:
            turns: the chat so far.
            room: positions for the answer.
            k: virtual tokens.
        """
        around = self.scaffold()
        sizes = [self._model.count_tokens(remove_marks(turn.content)) + around for turn in turns]
        gone = outgrown(self._model, [turn.role for turn in turns], sizes, room + k)
        return [turn for i, turn in enumerate(turns) if i not in gone]

    def scaffold(self) -> int:
        """Returns the tokens that the template puts around one user message."""
        return self._model.count_tokens(self._render([Turn("user", "")], ()))

    def _harmless(self, turn: Turn) -> str:
        # Results of tools and retrieved text come from outside: it must not open a turn of its own.
        text = neutralize_marked(turn.content) if turn.role == "tool" else turn.content
        return self._model.frozen.encoder.harmless(text, is_retrieved=turn.role == "tool" or holds_context(text))

    def _render(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]]) -> str:
        problem: Exception | None = None
        # Some templates want the roles in turn, some know no system role (Gemma's): then it opens the next turn.
        for change in (list, _one_turn_a_role, _without_system):
            try:
                text = self._apply(change(turns), tools)
            except Exception as error:  # noqa: BLE001 - a template is a program of the model's author
                problem = problem or error
                continue
            if not (lost := _lost(turns, text)):
                return text
            problem = problem or PromptError(f"it leaves out the {lost}'s text; {_WAY_OUT}")
        roles = ", ".join(turn.role for turn in turns)
        msg = f"the chat template of {self._model.name} refuses messages of the roles {roles}: {problem}"
        raise PromptError(msg) from problem

    def _apply(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]], *, answered: bool = False) -> str:
        conversation = [{"role": turn.role, "content": turn.content, **turn.extra} for turn in turns]
        with self._model.frozen.text_lock:
            rendered = self._model.tokenizer.apply_chat_template(
                conversation,
                tools=[dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=not answered,
            )
        return str(rendered)


def end_of_turn(backbone: Backbone) -> int | None:
    """Returns the id that the chat template writes after an answer, if generation stops at it; else None."""
    chat, tokenizer = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}], backbone.tokenizer
    with backbone.text_lock:
        try:
            rendered = str(tokenizer.apply_chat_template(chat, tokenize=False))
        except Exception:  # noqa: BLE001 - a template is a program of the model's author
            return None
        ids = tokenizer(rendered.rpartition(_PROBE)[-1], add_special_tokens=False).input_ids
    return next((i for i in ids if i in backbone.eos_ids), None)


def _lost(turns: Sequence[Turn], text: str) -> str:
    """Returns the role of a system or user turn that the rendered text does not hold; "" if there is none."""
    shown, told = remove_marks(text), (turn for turn in turns if turn.role in ("system", "user"))
    return next((turn.role for turn in told if remove_marks(turn.content).strip() not in shown), "")


def _one_turn_a_role(turns: Sequence[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role and not (merged[-1].extra or turn.extra):
            merged[-1] = replace(turn, content=f"{merged[-1].content}\n\n{turn.content}")
        else:
            merged.append(turn)
    return merged


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    merged = _one_turn_a_role(turns)
    if len(merged) > 1 and merged[0].role == "system":
        system, first, *rest = merged
        merged = _one_turn_a_role([replace(first, content=f"{system.content}\n\n{first.content}"), *rest])
    return merged
