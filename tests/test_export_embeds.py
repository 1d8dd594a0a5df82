"""Prompts as vectors: a server of the plain backbone answers as the local model does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_models
import torch
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_server import serve
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BioGptConfig,
    GemmaConfig,
    PretrainedConfig,
    XGLMConfig,
)

from spring_integrations import MARK, RagPrompt, SpringModel, SpringTokens
from spring_integrations.errors import SettingsError, TokensError
from spring_integrations.export import PromptEmbeds
from spring_integrations.langchain import SPRING_PROMPT, ChatSpringHF, ChatSpringServed, SpringServedLLM
from spring_integrations.llama_index import SpringServedLLM as LlamaIndexServed
from spring_integrations.llama_index.errors import SpringCallError
from spring_integrations.prompts import token_text
from spring_integrations.runtime.backbone import Backbone, fingerprint
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.tokens import TokensMetadata

QUESTION = "What is the capital of Peru?"
RAG = SPRING_PROMPT.format(context=f"Lima is the capital of Peru.{MARK}", question=QUESTION)


def saved(folder: Path, family: str, **options: int) -> Path:
    model, words = tiny_models.build(family, **options)
    model.save_pretrained(folder, max_shard_size="40KB")
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("family", "extra_rows"), [("llama", 0), ("qwen2", 11), ("gemma", 0), ("gpt2", 0)])
def test_vectors_are_those_that_the_local_model_looks_up(
    family: str, extra_rows: int, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    source = saved(tmp_path, family, extra_rows=extra_rows)
    embeds = PromptEmbeds.load(str(source), random_tokens)
    backbone = Backbone(AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source))
    first = backbone.attach(random_tokens)
    for k in (0, 3, 8):
        ids = backbone.encode(RagPrompt("Lima is in Peru.\n\n", "Question: who?"), range(first, first + k))
        expected = backbone.model.get_input_embeddings()(torch.tensor(ids))
        found = embeds.vectors(f"Lima is in Peru.\n\n{token_text(k)}Question: who?")
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        GemmaConfig(hidden_size=40, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=8),
        XGLMConfig(d_model=32, num_layers=1, attention_heads=4, ffn_dim=16, max_position_embeddings=64),
        BioGptConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16),
    ],
    ids=lambda config: getattr(config, "model_type", None),
)
def test_vectors_have_the_models_scale_to_the_last_bit(
    config: PretrainedConfig, dtype: torch.dtype, tmp_path: Path
) -> None:
    words = tiny_models.tokenizer("no-prepend")
    config.vocab_size, config.intermediate_size, config.pad_token_id = len(words), 16, 0
    AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    table = AutoModelForCausalLM.from_pretrained(tmp_path).get_input_embeddings()
    own = SpringTokens(torch.ones(2, config.hidden_size), TokensMetadata("org/mine", fingerprint=fingerprint(table)))
    found = PromptEmbeds.load(tmp_path, own, on_other_backbone="error").vectors("Lima is the capital")
    ids = words("Lima is the capital", return_tensors="pt").input_ids[0]
    assert torch.equal(found, table(ids))


def test_only_the_embedding_is_read(random_tokens: SpringTokens, tmp_path: Path) -> None:
    source = saved(tmp_path, "qwen2")
    embeds = PromptEmbeds.load(str(source), random_tokens).vectors("Lima")
    needed = next(p for p in source.glob("*.safetensors") if b"embed_tokens.weight" in p.read_bytes()[:4000])
    for path in source.glob("*.safetensors"):
        if path != needed:
            os.truncate(path, 0)
    assert torch.equal(PromptEmbeds.load(str(source), random_tokens).vectors("Lima"), embeds)


@pytest.mark.parametrize("kind", tiny_models.TOKENIZER_KINDS)
def test_a_part_of_a_chat_gets_no_space_before_it(kind: str, random_tokens: SpringTokens, tmp_path: Path) -> None:
    model, words = tiny_models.build("llama", kind)
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    embeds = PromptEmbeds.load(tmp_path, random_tokens)
    before = embeds.vectors("the river\n")
    for text in ("Lima is the capital", "[ref1][ref2]which city?", "東京", " Lima"):
        part = embeds.vectors(text, special=False)
        assert torch.equal(torch.cat([before, part]), embeds.vectors("the river\n" + text))


def test_more_virtual_tokens_than_there_are_is_an_error(llama_folder: Path, random_tokens: SpringTokens) -> None:
    embeds = PromptEmbeds.load(str(llama_folder), random_tokens.first(2))
    with pytest.raises(TokensError, match="more than the 2 virtual tokens"):
        embeds(token_text(3))


def test_chains_ask_a_server_of_the_plain_backbone(llama_folder: Path, random_tokens: SpringTokens) -> None:
    local = SpringModel.from_pretrained(str(llama_folder), settings=GenerationSettings(max_new_tokens=12))
    local = SpringModel(local.backbone, local.tokenizer, random_tokens, settings=GenerationSettings(max_new_tokens=12))
    prompts = [RAG, RAG.replace("Lima", "Oslo"), "No context here"]
    expected = {k: [g.text for g in local.generate(prompts, k=k)] for k in (0, 3, 8)}
    embeds = PromptEmbeds.load(str(llama_folder), random_tokens)
    with serve(*tiny_models.build("llama"), random_tokens) as served:
        client = OpenAI(base_url=served.address, api_key="-", model="tiny", max_tokens=12, temperature=0)
        llm = SpringServedLLM(llm=client, k=8, embeds=embeds)
        for k, texts in expected.items():
            assert [g[0].text for g in llm.generate(prompts, k=k).generations] == texts
        assert "".join(llm.stream(RAG, k=3)) == expected[3][0]
        other = OpenAILike(api_base=served.address, api_key="-", model="tiny", max_tokens=12, temperature=0)
        index = LlamaIndexServed(other, k=8, embeds=embeds)
        answer = index.complete(RAG, k=3)
        assert (answer.text, answer.additional_kwargs["k"]) == (expected[3][0], 3)
        assert [r.text for r in index.stream_complete(RAG)][-1] == expected[8][0]
        assert all(r["prompt_embeds"] and r["prompt"] is None for r in served.requests)
        with pytest.raises(SpringCallError, match="embeds goes with completions"):
            index.chat([ChatMessage(content="Hi")])


def test_chats_ask_a_server_of_the_plain_backbone(llama_folder: Path, random_tokens: SpringTokens) -> None:
    local = SpringModel.from_pretrained(str(llama_folder), settings=GenerationSettings(max_new_tokens=12))
    local = SpringModel(local.backbone, local.tokenizer, random_tokens, settings=GenerationSettings(max_new_tokens=12))
    turns = [SystemMessage(f"Lima is the capital of Peru.{MARK}"), HumanMessage("Where?")]
    embeds = PromptEmbeds.load(str(llama_folder), random_tokens)
    with serve(*tiny_models.build("llama"), random_tokens) as served:
        client = ChatOpenAI(base_url=served.address, api_key="-", model="tiny", max_tokens=12, temperature=0)
        chat = ChatSpringServed(llm=client, k=8, embeds=embeds)
        for k in (0, 3, 8):
            expected = ChatSpringHF(model=local, k=k).invoke(turns).content
            assert chat.invoke(turns, k=k).content == expected
            parts = served.requests[-1]["messages"][-1]["content"]
            assert ("prompt_embeds" in str(parts)) == (k > 0)
            assert "[ref1]" not in str(served.requests[-1])
        blocks = HumanMessage([{"type": "text", "text": f"Lima.{MARK}"}, {"type": "text", "text": "Question: who?"}])
        with pytest.raises(SettingsError, match="messages of one text"):
            chat.invoke([turns[0], blocks])
    others = [ChatSpringServed(llm=client, k=8, embeds=e)._identifying_params for e in (embeds, None)]
    assert others[0] != others[1]


async def test_async_requests(llama_folder: Path, random_tokens: SpringTokens) -> None:
    embeds = PromptEmbeds.load(str(llama_folder), random_tokens)
    with serve(*tiny_models.build("llama"), random_tokens) as served:
        client = OpenAI(base_url=served.address, api_key="-", model="tiny", max_tokens=12, temperature=0)
        llm = SpringServedLLM(llm=client, k=8, embeds=embeds)
        assert await llm.abatch([RAG, "Hi"]) == llm.batch([RAG, "Hi"])
        other = OpenAILike(api_base=served.address, api_key="-", model="tiny", max_tokens=12, temperature=0)
        answer = await LlamaIndexServed(other, k=8, embeds=embeds).acomplete(RAG)
        assert answer.text == llm.invoke(RAG)


def test_caches_tell_other_tokens_apart(llama_folder: Path, random_tokens: SpringTokens) -> None:
    client = OpenAI(base_url="http://localhost:1", api_key="-", model="tiny")
    tokens = random_tokens, SpringTokens(random_tokens.embeddings * 2)
    asked = [
        SpringServedLLM(llm=client, k=8, embeds=PromptEmbeds.load(str(llama_folder), t))._identifying_params
        for t in tokens
    ]
    assert asked[0] != asked[1]
