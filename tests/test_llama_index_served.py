"""`SpringServedLLM`: a served model answers as the local one does, through a real server and its client."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
import tiny_models
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index_kit import (
    CONTEXT,
    LONG,
    NODES,
    PLAIN,
    QUESTION,
    RAG,
    WIDE,
    HashEmbedding,
    ServerLLM,
    kept_settings,
    plain_backbone,
    recorded_events,
    recording_model,
    user,
)
from openai_server import ServedModel, serve

from spring_integrations import MARK, SpringTokens
from spring_integrations.errors import PromptError, SettingsError, TokenCountError
from spring_integrations.llama_index import (
    SpringCallError,
    SpringHFLLM,
    SpringNodePostprocessor,
    SpringServedLLM,
    refine_template,
    summary_template,
    text_qa_template,
)

REFS = "".join(f"[ref{i}]" for i in range(1, 9))
MODES = ("compact", "refine", "tree_summarize", "simple_summarize", "accumulate")
OURS = {"text_qa_template": text_qa_template, "refine_template": refine_template, "summary_template": summary_template}


@pytest.fixture(scope="module")
def server(random_tokens: SpringTokens) -> Iterator[ServedModel]:
    with serve(*tiny_models.build("llama"), random_tokens) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(server: ServedModel) -> Iterator[None]:
    server.requests.clear()
    with kept_settings():
        yield


@pytest.fixture(params=["small client", "OpenAILike"])
def client(request: pytest.FixtureRequest, server: ServedModel) -> Any:
    """Makes an LLM of the server: a small one of the tests, and the one that users have."""

    def make(*, chat: bool) -> LLM:
        if request.param == "small client":
            return ServerLLM(url=server.address, is_chat_model=chat)
        library = pytest.importorskip("llama_index.llms.openai_like")
        return library.OpenAILike(
            model="tiny", api_base=server.address, api_key="none", is_chat_model=chat, context_window=WIDE, max_tokens=8
        )

    return make


def sent(server: ServedModel) -> list[str]:
    """The prompts that reached the server, those of chats joined."""
    return [
        body["prompt"] if "prompt" in body else "\n".join(message["content"] for message in body["messages"])
        for body in server.requests
    ]


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
def test_every_call_answers_as_the_local_model(client: Any, random_tokens: SpringTokens, chat: bool) -> None:
    served = SpringServedLLM(client(chat=chat), k=8)
    local = SpringHFLLM(model=recording_model(random_tokens, template=chat), max_new_tokens=8)
    messages = [ChatMessage(role=MessageRole.SYSTEM, content=f"Lima is in Peru.{MARK}"), user("which city?")]

    async def read(stream: Any) -> Any:
        return [part async for part in await stream][-1]

    for asked, ways in ((RAG, ("complete", "stream_complete")), (messages, ("chat", "stream_chat"))):
        wanted = answer_of(getattr(local, ways[0])(asked))
        responses = [
            getattr(served, ways[0])(asked),
            list(getattr(served, ways[1])(asked))[-1],
            asyncio.run(getattr(served, f"a{ways[0]}")(asked)),
            asyncio.run(read(getattr(served, f"a{ways[1]}")(asked))),
        ]
        assert [answer_of(r) for r in responses] == [wanted] * 4
        boundary = "official" if asked is RAG else "last-turn"
        assert [(r.additional_kwargs["k"], r.additional_kwargs["boundary"]) for r in responses] == [(8, boundary)] * 4


def answer_of(response: Any) -> str:
    return str(response.message.content if hasattr(response, "message") else response.text)


@pytest.mark.parametrize(("chat", "templates"), [(False, OURS), (True, {})], ids=["text-ours", "chat-stock"])
@pytest.mark.parametrize("mode", MODES)
def test_every_call_with_context_is_boosted(
    server: ServedModel, mode: str, chat: bool, templates: dict[str, Any]
) -> None:
    llm = SpringServedLLM(ServerLLM(url=server.address, is_chat_model=chat, context_window=1400), k=8)
    Settings.tokenizer = str.split
    index = VectorStoreIndex([*NODES, LONG], embed_model=HashEmbedding())
    engine = index.as_query_engine(
        llm=llm,
        similarity_top_k=5,
        response_mode=mode,
        node_postprocessors=[SpringNodePostprocessor()],
        **templates,
    )
    response = engine.query(QUESTION)
    prompts = sent(server)
    assert prompts
    for prompt in prompts:
        before, after = prompt.split(REFS)
        assert before
        assert not CONTEXT.search(after)
        assert "\u2063" not in prompt
        assert "u2063" not in prompt
    assert str(asyncio.run(engine.aquery(QUESTION))) == str(response)


def test_a_query_engine_moves_from_local_to_served_with_one_line(client: Any, random_tokens: SpringTokens) -> None:
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())

    def ask(llm: LLM) -> str:
        return str(index.as_query_engine(llm=llm, node_postprocessors=[SpringNodePostprocessor()]).query(QUESTION))

    local = ask(SpringHFLLM(model=recording_model(random_tokens), max_new_tokens=8))
    assert ask(SpringServedLLM(client(chat=True), k=8)) == local
    assert ask(SpringServedLLM(client(chat=True), k=0)) != local


def test_prompts_without_context_are_sent_as_they_are(client: Any, server: ServedModel) -> None:
    llm = SpringServedLLM(client(chat=False), k=8)
    response = llm.complete(PLAIN)
    assert sent(server) == [PLAIN]
    assert response.text == plain_backbone(PLAIN)
    assert (response.additional_kwargs["k"], response.additional_kwargs["boundary"]) == (0, None)


def test_k_of_a_call_wins(server: ServedModel) -> None:
    llm = SpringServedLLM(ServerLLM(url=server.address), k=8)
    assert llm.complete(RAG, k=2).additional_kwargs["k"] == 2
    assert llm.chat([user(RAG)], k=0).additional_kwargs["k"] == 0
    assert llm.complete(PLAIN, k=None).additional_kwargs["k"] == 0
    assert llm.chat([user(RAG)], k=None).additional_kwargs["k"] == 8
    server.requests[2:] = []
    llm.k = 1
    llm.complete(RAG)
    assert ["".join(p.partition("[ref")[1:]).partition("Question")[0] for p in sent(server)] == [
        "[ref1][ref2]",
        "",
        "[ref1]",
    ]


def test_the_callers_messages_and_images_stay(server: ServedModel) -> None:
    image = ImageBlock(url="http://127.0.0.1/a.png")
    message = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text=RAG), image])
    before = copy.deepcopy(message)
    with recorded_events() as seen:
        SpringServedLLM(ServerLLM(url=server.address, is_chat_model=True), k=1).chat([message])
    assert message == before
    (start,) = [e for e in seen if type(e).__name__ == "LLMChatStartEvent"]
    shown, text = start.messages[0].blocks
    assert shown == image
    assert "[ref1]Question: " in text.text


def test_settings_are_the_wrapped_llms(server: ServedModel) -> None:
    inner = ServerLLM(url=server.address, system_prompt="Be brief.", messages_to_prompt=lambda messages: "rendered")
    llm = SpringServedLLM(inner, k=8)
    assert (llm.system_prompt, llm.messages_to_prompt(messages=[])) == ("Be brief.", "rendered")
    assert (llm.metadata.context_window, llm.metadata.model_name) == (WIDE - 8, inner.metadata.model_name)
    assert SpringServedLLM(inner, k=8, system_prompt="Be kind.").system_prompt == "Be kind."
    assert llm.to_dict()["llm"]["url"] == server.address
    assert (llm.special_tokens, SpringServedLLM(inner, k=8, special_tokens=("<sep>",)).special_tokens) == (
        (),
        ("<sep>",),
    )


def test_impossible_values_are_refused(server: ServedModel) -> None:
    inner = ServerLLM(url=server.address)
    with pytest.raises(SettingsError, match="got str"):
        SpringServedLLM("gpt", k=1)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="embeds='x' cannot turn prompts into vectors"):
        SpringServedLLM(inner, k=1, embeds="x")
    with pytest.raises(SettingsError, match="set is_chat_model=False"):
        SpringServedLLM(ServerLLM(url=server.address, is_chat_model=True), k=1, embeds=str)
    with pytest.raises(SettingsError, match="ServerLLM has no additional_kwargs"):
        SpringServedLLM(inner, k=1, embeds=str)
    with pytest.raises(TokenCountError, match="k=-1"):
        SpringServedLLM(inner, k=-1)
    with pytest.raises(PromptError, match="regular expression"):
        SpringServedLLM(inner, k=1, boundary_rule="(")
    strict = SpringServedLLM(inner, k=1, on_missing_boundary="error")
    with pytest.raises(SpringCallError, match="no boundary"):
        strict.complete(PLAIN)
    with pytest.raises(SpringCallError, match="k=-2"):
        strict.chat([user(RAG)], k=-2)
    assert not server.requests
