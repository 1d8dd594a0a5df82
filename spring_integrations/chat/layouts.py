"""Passages and a question in each layout that prompts come in, as inference would find them."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Self

from spring_integrations.chat.template import ChatTemplate, Turn
from spring_integrations.errors import SettingsError
from spring_integrations.passages import Passage
from spring_integrations.prompts import RagPrompt, check_question
from spring_integrations.prompts.stock import CHATS, StockName, fill_stock
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.runtime.model import SpringModel


class Layouts:
    """Writes prompts for one backbone: its control tokens are neutralised, its chat template is used."""

    def __init__(self, special_tokens: Sequence[str] = (), chat: ChatTemplate | None = None) -> None:
        """Takes the tokenizer's special tokens, and what renders chats; without it there are no chats."""
        self.special_tokens = tuple(special_tokens)
        self._chat = chat

    @classmethod
    def of(cls, backbone: Backbone, *, chat: bool) -> Self:
        """Returns the layouts of a backbone.

        Args:
            backbone: the backbone.
            chat: whether chats are to be written too.

        Raises:
            PromptError: if chats are to be written and its tokenizer has no chat template.
            SettingsError: if they are, and it is an encoder-decoder.
        """
        if chat and isinstance(backbone, Seq2SeqBackbone):
            msg = f"{backbone.name} is an encoder-decoder, which has no chat layout; leave out 'chat'"
            raise SettingsError(msg)
        return cls(backbone.special_tokens, ChatTemplate(SpringModel(backbone)) if chat else None)

    def paper(self, passages: Sequence[Passage | str], question: str) -> RagPrompt:
        """Returns the paper's prompt."""
        return RagPrompt.from_passages(passages, question, special_tokens=self.special_tokens)

    def stock(self, name: StockName, passages: Sequence[Passage | str], question: str) -> RagPrompt:
        """Returns a framework's prompt, its boundary where inference finds it.

        Raises:
            PromptError: if the question is empty.
            SettingsError: if it is a chat, and these layouts were made without.
        """
        turns = fill_stock(name, passages, check_question(question), self.special_tokens)
        if name not in CHATS:
            ((_, text),) = turns
            return RagPrompt.parse(text)
        if self._chat is None:
            msg = f"{name!r} is a chat, for which a chat template is needed: Layouts.of(backbone, chat=True)"
            raise SettingsError(msg)
        return self._chat.prompt([Turn(*turn) for turn in turns])
