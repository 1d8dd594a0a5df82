"""LlamaIndex programs that exist already: one line changes the LLM, and other LLMs bear our parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from llama_index.core import VectorStoreIndex
from llama_index_kit import (
    NODES,
    PLAIN,
    QUESTION,
    HashEmbedding,
    TransformersLLM,
    plain_backbone,
    recorded_events,
    recording_model,
)
from transformers import AutoModelForCausalLM

from spring_integrations import MARK
from spring_integrations.llama_index import SpringHFLLM, SpringNodePostprocessor, text_qa_template
from spring_integrations.prompts import remove_marks

QUERY = """
llm = TransformersLLM(folder=folder)
index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
engine = index.as_query_engine(llm=llm, similarity_top_k=2)
response = engine.query(question)
"""
CHAT = """
llm = TransformersLLM(folder=folder)
index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
engine = index.as_chat_engine(chat_mode="context", llm=llm, similarity_top_k=2)
response = engine.chat(question)
"""
OURS = "llm = SpringHFLLM(folder, tokens)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with room for LlamaIndex's stock prompts."""
    path = tmp_path_factory.mktemp("wide-llama")
    model = recording_model(None)
    model.backbone.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(("program", "boundary"), [(QUERY, "llama-index-qa"), (CHAT, "last-turn")])
def test_one_line_is_swapped(program: str, boundary: str, folder: Path, tokens_file: Path) -> None:
    lines = program.splitlines()
    swapped = [OURS if line.startswith("llm = ") else line for line in lines]
    assert sum(ours != theirs for ours, theirs in zip(swapped, lines, strict=True)) == 1
    before, after = (run("\n".join(text), folder, tokens_file) for text in (lines, swapped))
    assert str(before["response"]) != str(after["response"])
    assert [n.node for n in before["response"].source_nodes] == [n.node for n in after["response"].source_nodes]
    (answered,) = after["responses"]
    assert (answered.raw["k"], answered.raw["boundary"]) == (8, boundary)

    # Without context the same object is the backbone, to the last bit.
    llm: SpringHFLLM = after["llm"]
    assert llm.complete(PLAIN, formatted=True, max_new_tokens=8).text == plain_backbone(PLAIN)
    ids = llm.model.tokenizer(PLAIN, return_tensors="pt").input_ids
    with torch.inference_mode():
        plain = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        assert torch.equal(llm.model.backbone(ids).logits, plain)


def run(program: str, folder: Path, tokens: Path) -> dict[str, Any]:
    """Returns the program's variables, and the LLM's responses as instrumentation saw them."""
    names: dict[str, Any] = {**globals(), "folder": str(folder), "tokens": str(tokens), "question": QUESTION}
    with recorded_events() as seen:
        exec(program, names)
    ends = [e for e in seen if type(e).__name__ in ("LLMCompletionEndEvent", "LLMChatEndEvent")]
    return {**names, "responses": [e.response for e in ends]}


@pytest.mark.parametrize(
    ("mode", "templates"),
    [
        ("compact", {}),
        ("refine", {}),
        ("tree_summarize", {}),
        ("accumulate", {}),
        # LlamaIndex's own template would show the marks as escapes, in the Python list it inserts.
        ("simple_summarize", {"text_qa_template": text_qa_template}),
    ],
)
def test_another_llm_with_our_postprocessor_sees_the_same_text(
    folder: Path, mode: str, templates: dict[str, Any]
) -> None:
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
    plain, ours = TransformersLLM(folder=str(folder)), TransformersLLM(folder=str(folder))
    settings = {"similarity_top_k": 2, "response_mode": mode, **templates}
    marking = [SpringNodePostprocessor()]
    index.as_query_engine(llm=plain, **settings).query(QUESTION)
    response = index.as_query_engine(llm=ours, node_postprocessors=marking, **settings).query(QUESTION)
    assert str(response).strip()
    shown = [remove_marks(prompt) for prompt in ours.prompts]
    assert len(shown) == len(plain.prompts)
    # Later prompts of refine hold an answer, and our template numbers the passages where it can tell them.
    assert templates or shown[0] == plain.prompts[0]
    assert MARK in ours.prompts[0]
    assert not any("[ref" in text or "u2063" in text or "\u2063" in text for text in shown)
    texts = {node.id_: node.text for node in NODES}
    for source in response.source_nodes:
        assert remove_marks(source.node.get_content()) == texts[source.node_id]
