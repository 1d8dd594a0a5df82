"""Passages as LlamaIndex nodes, and back."""

from __future__ import annotations

from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from spring_integrations.passages import Passage

TITLE = "title"


def as_node(passage: Passage) -> TextNode:
    """Returns the passage as a node; its metadata are for the reader, neither embedded nor shown to the LLM."""
    metadata: dict[str, Any] = {str(name): value for name, value in passage.metadata.items()}
    if passage.title:
        metadata[TITLE] = passage.title
    hidden = sorted(metadata)
    named = {"id_": passage.id} if passage.id else {}
    return TextNode(
        text=passage.text,
        metadata=metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
        **named,
    )


def as_passage(node: BaseNode, score: float | None = None) -> Passage:
    """Returns the node as a passage."""
    rest = dict(node.metadata)
    return Passage(node.get_content(MetadataMode.NONE), rest.pop(TITLE, ""), node.node_id, score, rest)
