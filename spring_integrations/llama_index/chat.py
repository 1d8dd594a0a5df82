"""Chat messages to the prompt of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from spring_integrations.chat.history import outgrown
from spring_integrations.chat.template import ChatTemplate, Turn
from spring_integrations.errors import PromptError
from spring_integrations.prompts import RagPrompt, remove_marks
from spring_integrations.prompts.marks import MARKS
from spring_integrations.runtime.model import SpringModel

_ROLES = {
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.DEVELOPER: "system",
    MessageRole.FUNCTION: "tool",
}
"""Names that LlamaIndex has besides those of chat templates."""


class ChatPrompt:
    """`ChatTemplate` for LlamaIndex's messages."""

    def __init__(self, model: SpringModel) -> None:
        self._template = ChatTemplate(model)

    def __call__(self, messages: Sequence[ChatMessage]) -> str:
        """Returns the prompt as a string with marks, which is what LlamaIndex's hooks hand on.

        Raises:
            PromptError: if the template refuses the messages or loses the boundary.
        """
        return self.parts(messages).marked()

    def parts(self, messages: Sequence[ChatMessage], room: int = 0, k: int = 0) -> RagPrompt:
        """Returns the prompt, which knows how its boundary was found; errors as above.

        Args:
            messages: the chat; its oldest exchanges are left out where they do not fit the window.
            room: positions for the answer.
            k: virtual tokens.
        """
        turns = [Turn(role_of(m), m.content or "") for m in messages]
        return self._template.prompt(self._template.fitting(turns, room, k))

    def scaffold(self) -> int:
        """Returns the tokens that the template puts around one user message."""
        return self._template.scaffold()


class CompletionPrompt:
    """`ChatPrompt` for a text, which becomes one user message."""

    def __init__(self, chat: ChatPrompt) -> None:
        self._chat = chat

    def __call__(self, prompt: str) -> str:
        """Returns the prompt as a string with marks."""
        return self.parts(prompt).marked()

    def parts(self, prompt: str) -> RagPrompt:
        """Returns the prompt, which knows how its boundary was found."""
        return self._chat.parts([ChatMessage(role=MessageRole.USER, content=prompt)])


class TextChat:
    """Messages as one text, as LlamaIndex writes them for a model without a chat template."""

    def __init__(self, model: SpringModel, reserved: Callable[[], int]) -> None:
        """Keeps the model, and what returns the positions for virtual tokens and the answer."""
        self._model = model
        self._reserved = reserved

    def __call__(self, messages: Sequence[ChatMessage]) -> str:
        """Returns the text; the oldest exchanges are left out where they do not fit the window."""
        return self.text(messages, self._reserved())

    def text(self, messages: Sequence[ChatMessage], reserved: int) -> str:
        """Returns the text, for another answer or other virtual tokens."""
        roles = [role_of(message) for message in messages]
        count = self._model.count_tokens
        sizes = [count(f"{m.role.value}: {remove_marks(m.content or '')}\n") for m in messages]
        # Text is split a little otherwise where marks were, and begins with a special token.
        around = (
            count(f"{MessageRole.ASSISTANT.value}: ") + 2 + sum(len(MARKS.findall(m.content or "")) for m in messages)
        )
        gone = outgrown(self._model, roles, sizes, reserved + around)
        return messages_to_prompt([message for i, message in enumerate(messages) if i not in gone])


def role_of(message: ChatMessage) -> str:
    """Returns the name that chat templates have for the role of a message."""
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
            msg = f"the backbone reads text only, but a {role_of(message)} message holds {', '.join(other)}"
            raise PromptError(msg)
    return messages
