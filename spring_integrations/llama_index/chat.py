"""Chat messages to the prompt string of a backbone with a chat template."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from spring_integrations.errors import PromptError
from spring_integrations.model import SpringModel
from spring_integrations.prompt import MARK, mark_last_turn

_ROLES = {
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.DEVELOPER: "system",
    MessageRole.FUNCTION: "tool",
}
"""Names that LlamaIndex has besides those of chat templates."""


class ChatPrompt:
    """Renders messages through the tokenizer's chat template, with the boundary in the last user turn."""

    def __init__(self, model: SpringModel) -> None:
        self._model = model

    def __call__(self, messages: Sequence[ChatMessage]) -> str:
        """Returns the prompt for the messages.

        Raises:
            PromptError: if the template refuses them or loses the boundary.
        """
        turns = mark_last_turn([(_role(m), m.content or "") for m in messages], self._model.boundary_rule)
        prompt = self._render(turns)
        wanted = sum(content.count(MARK) for _, content in turns)
        if prompt.count(MARK) != wanted:
            msg = (
                f"the chat template of {self._model.name} does not keep the boundary between context and "
                "question; use is_chat_model=False for a plain prompt"
            )
            raise PromptError(msg)
        return prompt

    def from_completion(self, prompt: str) -> str:
        """Returns the prompt for one user message."""
        return self([ChatMessage(role=MessageRole.USER, content=prompt)])

    def scaffold(self) -> int:
        """Returns the tokens that the template puts around one user message."""
        return self._model.count_tokens(self._render([("user", "")]))

    def _render(self, turns: list[tuple[str, str]]) -> str:
        try:
            return self._apply(turns)
        except Exception as error:  # a template is a program of the model's author
            if len(turns) > 1 and turns[0][0] == "system":
                # Templates without a system role (Gemma's) want such text in the first user turn.
                (_, system), (role, content), *rest = turns
                return self._render([(role, f"{system}\n\n{content}"), *rest])
            roles = ", ".join(role for role, _ in turns)
            msg = f"the chat template of {self._model.name} refuses messages of the roles {roles}: {error}"
            raise PromptError(msg) from error

    def _apply(self, turns: list[tuple[str, str]]) -> str:
        conversation = [{"role": role, "content": content} for role, content in turns]
        with self._model.shared.text_lock:
            return str(
                self._model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
            )


def _role(message: ChatMessage) -> str:
    role = MessageRole(message.role)
    return _ROLES.get(role, role.value)


def check_messages(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Returns the messages; raises PromptError if there are none or one holds more than text."""
    if not messages:
        msg = "there are no messages to answer; give at least one user message"
        raise PromptError(msg)
    for message in messages:
        other = [type(block).__name__ for block in message.blocks if not isinstance(block, TextBlock)]
        if other:
            msg = f"the backbone reads text only, but a {_role(message)} message holds {', '.join(other)}"
            raise PromptError(msg)
    return messages
