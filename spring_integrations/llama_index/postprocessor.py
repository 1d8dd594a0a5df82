"""`SpringNodePostprocessor`: cleans and marks what any retriever or re-ranker hands on."""

from __future__ import annotations

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from spring_integrations.llama_index.nodes import mark_nodes


class SpringNodePostprocessor(BaseNodePostprocessor):
    """Marks the end of each node's text and makes control text in it harmless.

    Put it last, after re-rankers and filters:
    `index.as_query_engine(llm=llm, node_postprocessors=[SpringNodePostprocessor()])`. It hands on
    copies, changes only invisible characters, keeps no state, and may be applied twice.
    """

    special_tokens: tuple[str, ...] = ()
    """Further texts to be neutralised; our LLM knows the control tokens of its own tokenizer."""

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "SpringNodePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return mark_nodes(nodes, self.special_tokens)
