"""Chat messages to the prompt of a backbone with a chat template."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from spring_integrations.chat import ChatTemplate, Turn
from spring_integrations.errors import PromptError
from spring_integrations.model import SpringModel

_ROLES = {
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.DEVELOPER: "system",
    MessageRole.FUNCTION: "tool",
}
"""Names that LlamaIndex has besides those of chat templates."""


class ChatPrompt:
    """`ChatTemplate` for LlamaIndex's messages; its prompts are strings, with marks."""

    def __init__(self, model: SpringModel) -> None:
        self._template = ChatTemplate(model)

    def __call__(self, messages: Sequence[ChatMessage]) -> str:
        """Returns the prompt for the messages.

        Raises:
            PromptError: if the template refuses them or loses the boundary.
        """
        return self._template.prompt([Turn(_role(m), m.content or "") for m in messages]).marked()

    def from_completion(self, prompt: str) -> str:
        """Returns the prompt for one user message."""
        return self([ChatMessage(role=MessageRole.USER, content=prompt)])

    def scaffold(self) -> int:
        """Returns the tokens that the template puts around one user message."""
        return self._template.scaffold()


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
