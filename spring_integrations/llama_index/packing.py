"""How LlamaIndex packs context into the backbone's window: counted with its tokenizer, by honest sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llama_index.core.indices.prompt_helper import DEFAULT_PADDING, PromptHelper
from llama_index.core.llms.llm import LLM
from llama_index.core.node_parser.text.token import TokenTextSplitter
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.response_synthesizers.refine import DEFAULT_RESPONSE_PADDING_SIZE

from spring_integrations.prompts import MARK
from spring_integrations.runtime.backbone import Backbone

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

_NUMBER = "\n[10] "
_SMALL_WINDOW = 2 * DEFAULT_RESPONSE_PADDING_SIZE


class SpringPromptHelper(PromptHelper):
    """Reserves no more of a small window than it should for the answer that is refined."""

    def get_text_splitter_given_prompt(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int = 1,
        padding: int = DEFAULT_PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> TokenTextSplitter:
        """Returns a splitter into chunks that fit the window together with the prompt."""
        room = min(padding, _answer_room(self.context_window, self.num_output))
        return super().get_text_splitter_given_prompt(prompt, num_chunks, room, llm, tools)


def token_counter(backbone: Backbone) -> Callable[[str], list[int]]:
    """Returns text to ids, without special tokens, and with room for a number where a passage ends."""
    number = backbone.text_ids(_NUMBER)

    def encode(text: str) -> list[int]:
        return backbone.text_ids(text) + number * text.count(MARK)

    return encode


def reported_window(window: int, num_output: int) -> int:
    """Returns the context window to report so that LlamaIndex's own prompt helper can use it.

    That helper always reserves 500 tokens for the answer that is refined. Of a small window little or
    nothing would be left, so there what it should not reserve is added.
    """
    unused = max(DEFAULT_RESPONSE_PADDING_SIZE - _answer_room(window, num_output), 0)
    return max(window + unused if window < _SMALL_WINDOW else window, 1)


def _answer_room(window: int, num_output: int) -> int:
    # A quarter, even for shorter answers: LlamaIndex packs by the longer of its completion prompts,
    # but of its chat prompts the other one is longer.
    return max(num_output + DEFAULT_PADDING, window // 4)
