"""Nodes to passages: the one helper behind the retriever and the postprocessor."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, Node, NodeWithScore

from spring_integrations.prompts import mark_passage, neutralize, neutralize_label


def mark_nodes(nodes: Sequence[NodeWithScore], special_tokens: Iterable[str] = ()) -> list[NodeWithScore]:
    """Returns copies of the nodes whose text is neutralised and ends with a mark.

    Ids, scores, metadata, relationships and order stay; the nodes passed in are not touched. Nodes
    without text (images) are copied as they are. Applying it twice changes nothing more.
    """
    special = tuple(special_tokens)
    return [item.model_copy(update={"node": _mark(item.node, special)}) for item in nodes]


def _mark(node: BaseNode, special_tokens: tuple[str, ...]) -> BaseNode:
    # Not a deep copy: an IndexNode may refer to a whole query engine.
    changes: dict[str, Any] = {
        "metadata": copy.deepcopy(node.metadata),
        "relationships": dict(node.relationships),
        "excluded_llm_metadata_keys": list(node.excluded_llm_metadata_keys),
        "excluded_embed_metadata_keys": list(node.excluded_embed_metadata_keys),
    }
    shown = node.get_metadata_str(MetadataMode.LLM)
    harmless = _harmless_metadata(node, special_tokens)
    template = getattr(node, "text_template", None)
    if template and harmless != shown:
        # The LLM sees the harmless text; the metadata themselves stay as the index has them.
        literal = harmless.replace("{", "{{").replace("}", "}}")
        changes["text_template"] = template.replace("{metadata_str}", literal)
    text = node.get_content(MetadataMode.NONE)
    if text and isinstance(node, Node) and node.text_resource is not None:
        changes["text_resource"] = node.text_resource.model_copy(update={"text": mark_passage(text, special_tokens)})
    elif text:
        changes["text"] = mark_passage(text, special_tokens)
    return node.model_copy(update=changes)


def _harmless_metadata(node: BaseNode, special_tokens: tuple[str, ...]) -> str:
    """Returns the metadata as the LLM is to see them: what the user's template writes around them stays."""
    kept = {key: value for key, value in node.metadata.items() if key not in node.excluded_llm_metadata_keys}
    clean = {
        neutralize_label(key, special_tokens): neutralize_label(str(value), special_tokens)
        for key, value in kept.items()
    }
    cleaned = node.model_copy(update={"metadata": clean, "excluded_llm_metadata_keys": []})
    return neutralize(cleaned.get_metadata_str(MetadataMode.LLM), special_tokens)
