"""How LlamaIndex packs context into the backbone's window: counted with its tokenizer, by honest sizes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llama_index.core import Settings
from llama_index.core.base.llms.types import MessageRole
from llama_index.core.bridge.pydantic import Field
from llama_index.core.indices.prompt_helper import DEFAULT_PADDING, PromptHelper
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.node_parser.text.token import TokenTextSplitter
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, SelectorPromptTemplate

from spring_integrations.prompts import MARK
from spring_integrations.runtime.backbone import Backbone

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

_NUMBER = "\n[10] "
_WORD = "word"
_SMALL_WINDOW = 2000


class SpringPromptHelper(PromptHelper):
    """Reserves no more of a small window than it should for the answer that is refined, and for the chat so far."""

    scaffold: int = Field(default=0, description="Tokens that a chat template puts around a message.")

    def __init__(self, *, scaffold: int = 0, **settings: Any) -> None:
        """Keeps the tokens that a chat template puts around a message; the other settings are LlamaIndex's."""
        super().__init__(**settings)
        self.scaffold = scaffold

    def get_text_splitter_given_prompt(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int = 1,
        padding: int = DEFAULT_PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> TokenTextSplitter:
        """Returns a splitter into chunks that fit the window together with the prompt."""
        chosen = prompt.select(llm=llm) if isinstance(prompt, SelectorPromptTemplate) else prompt
        room = min(padding, self._answer_room())

        def splitter_for(asked: BasePromptTemplate) -> TokenTextSplitter:
            # One message's scaffold is off the window already.
            more = len(asked.message_templates) - 1 if isinstance(asked, ChatPromptTemplate) else 0
            around = room + self.scaffold * more
            return super(SpringPromptHelper, self).get_text_splitter_given_prompt(asked, num_chunks, around, llm, tools)

        bare = _without_history(chosen)
        size = splitter_for(bare or chosen).chunk_size
        if bare:
            # The model leaves out the oldest exchanges, so that the context need not vanish beside a long chat.
            size = min(size, self.context_window // 4)
            with suppress(ValueError):  # nothing is left
                size = max(size, splitter_for(chosen).chunk_size)
        overlap = int(self.chunk_overlap_ratio * size)
        return TokenTextSplitter(size, overlap, self._inside, separator=self.separator)

    def _inside(self, text: str) -> list[int]:
        # A splitter adds up words without the spaces between them, which many tokenizers count otherwise.
        before = len(self._token_counter.tokenizer(_WORD))
        return list(self._token_counter.tokenizer(f"{_WORD} {text}"))[before:]

    def _answer_room(self) -> int:
        # A quarter, even for shorter answers: LlamaIndex packs by the longer of its completion prompts,
        # but of its chat prompts the other one is longer.
        return max(self.num_output + DEFAULT_PADDING, self.context_window // 4)


class PromptHelperOfEach(PromptHelper):
    """Packs for a `SpringHFLLM` with its own helper, and for any other LLM as LlamaIndex does by default."""

    def get_text_splitter_given_prompt(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int = 1,
        padding: int = DEFAULT_PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> TokenTextSplitter:
        """Returns the splitter of the LLM's own helper."""
        asked = llm.llm if isinstance(llm, StructuredLLM) else llm or Settings._llm
        helper = getattr(asked, "prompt_helper", None)
        if not isinstance(helper, PromptHelper):
            helper = PromptHelper() if asked is None else PromptHelper.from_llm_metadata(asked.metadata)
        return helper.get_text_splitter_given_prompt(prompt, num_chunks, padding, llm, tools)


def help_small_window(window: int) -> None:
    """Gives LlamaIndex a `PromptHelperOfEach`, if the window is small and it has no prompt helper yet.

    Its own helper reserves 500 tokens for the answer that is refined, which leaves little or nothing of
    a small window.
    """
    if window < _SMALL_WINDOW and Settings._prompt_helper is None:
        Settings.prompt_helper = PromptHelperOfEach(chunk_size_limit=None)


def token_counter(backbone: Backbone) -> Callable[[str], list[int]]:
    """Returns text to ids, without special tokens, and with room for a number where a passage ends."""
    number = backbone.text_ids(_NUMBER)

    def encode(text: str) -> list[int]:
        return backbone.text_ids(text) + number * text.count(MARK)

    return encode


def _without_history(prompt: BasePromptTemplate) -> BasePromptTemplate | None:
    """Returns a chat's prompt without what was said before its last message; None if there is nothing."""
    if not isinstance(prompt, ChatPromptTemplate):
        return None
    *earlier, last = prompt.message_templates
    system = [message for message in earlier if message.role in (MessageRole.SYSTEM, MessageRole.DEVELOPER)]
    if len(system) == len(earlier):
        return None
    return prompt.model_copy(update={"message_templates": [*system, last]})
