"""A chat to one prompt: turns through the tokenizer's chat template, with the boundary in the last human turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spring_integrations.errors import PromptError
from spring_integrations.model import SpringModel
from spring_integrations.prompt import MARK, RagPrompt, mark_last_turn

_PROBE = "spring_probe_of_tools"


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

    @property
    def supports_tools(self) -> bool:
        """Whether the template writes tools that it is given into the prompt."""
        probe = {"type": "function", "function": {"name": _PROBE, "description": "", "parameters": {}}}
        try:
            return _PROBE in self._apply([Turn("user", "?")], [probe])
        except Exception:  # noqa: BLE001 - a template is a program of the model's author
            return False

    def prompt(self, turns: Sequence[Turn], *, tools: Sequence[Mapping[str, Any]] = ()) -> RagPrompt:
        """Returns the prompt for an answer to the turns.

        Args:
            turns: the chat so far.
            tools: descriptions of functions, in the form of OpenAI's API.

        Raises:
            PromptError: if there are no turns, or the template refuses them or loses the boundary.
        """
        if not turns:
            msg = "there are no messages to answer; give at least one user message"
            raise PromptError(msg)
        pairs, boundary = mark_last_turn([(t.role, t.content) for t in turns], self._model.boundary_rule)
        marked = [replace(t, content=content) for t, (_, content) in zip(turns, pairs, strict=True)]
        text = self._render(marked, tools)
        parsed = RagPrompt.parse(text)
        wanted = sum(content.count(MARK) for _, content in pairs)
        if (boundary is None) != (parsed.boundary is None) or text.count(MARK) != wanted:
            msg = (
                f"the chat template of {self._model.name} does not keep the boundary between context and question; "
                "send a plain prompt (LangChain: SpringHFLLM, LlamaIndex: is_chat_model=False)"
            )
            raise PromptError(msg)
        return replace(parsed, boundary=boundary)

    def scaffold(self) -> int:
        """Returns the tokens that the template puts around one user message."""
        return self._model.count_tokens(self._render([Turn("user", "")], ()))

    def _render(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]]) -> str:
        try:
            return self._apply(turns, tools)
        except Exception as error:  # a template is a program of the model's author
            if len(turns) > 1 and turns[0].role == "system":
                # Templates without a system role (Gemma's) want such text in the first user turn.
                system, first, *rest = turns
                return self._render([replace(first, content=f"{system.content}\n\n{first.content}"), *rest], tools)
            roles = ", ".join(turn.role for turn in turns)
            msg = f"the chat template of {self._model.name} refuses messages of the roles {roles}: {error}"
            raise PromptError(msg) from error

    def _apply(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]]) -> str:
        conversation = [{"role": turn.role, "content": turn.content, **turn.extra} for turn in turns]
        with self._model.shared.text_lock:
            rendered = self._model.tokenizer.apply_chat_template(
                conversation, tools=[dict(tool) for tool in tools] or None, tokenize=False, add_generation_prompt=True
            )
        return str(rendered)
