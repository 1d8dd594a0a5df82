"""LangChain models of a server: the same chain, local and served, gives the same answer.

The clients here post to a real server over HTTP; they stand for `OpenAI` and `ChatOpenAI`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import LLM, BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_openai_messages,
)
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_parts import QUESTION, Collector, OverlapRetriever, TokenCollector, documents
from openai_server import ServedModel, serve
from pydantic import Field, ValidationError

from spring_integrations import MARK, SpringModel, SpringTokens
from spring_integrations.errors import BoundaryError, PromptError, SettingsError, TokenCountError, ToolsError
from spring_integrations.langchain import (
    SPRING_PROMPT,
    ChatSpringHF,
    ChatSpringServed,
    SpringHFLLM,
    SpringRetriever,
    SpringServedLLM,
)
from spring_integrations.prompts import token_text

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

RAG = SPRING_PROMPT.format(context=f"Lima is the capital of Peru.{MARK}", question="What is the capital of Peru?")
CHAT = [SystemMessage(f"Use these facts.\nLima is the capital of Peru.{MARK}"), HumanMessage(QUESTION)]


def post(address: str, **request: Any) -> dict[str, Any]:
    data = json.dumps({**request, "model": "tiny"}).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data)) as response:
        return json.load(response)["choices"][0]


class Client(LLM):
    """A completion client."""

    url: str
    temperature: float = 0

    @property
    def _llm_type(self) -> str:
        return "client"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"url": self.url}

    def _call(self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any) -> str:
        return post(f"{self.url}/completions", prompt=prompt, stop=stop, max_tokens=kwargs.get("max_tokens", 12))[
            "text"
        ]


class StreamingClient(Client):
    """A completion client that streams, and tells its callbacks."""

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        for character in self._call(prompt, stop, **kwargs):
            if run_manager:
                run_manager.on_llm_new_token(character)
            yield GenerationChunk(text=character)


class ChatClient(BaseChatModel):
    """A chat client with tools."""

    url: str

    @property
    def _llm_type(self) -> str:
        return "chat-client"

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=tool_choice, **kwargs)

    def _content(self, messages: list[BaseMessage], stop: list[str] | None, **kwargs: Any) -> str:
        sent = convert_to_openai_messages(messages, text_format="string")
        address = f"{self.url}/chat/completions"
        return post(address, messages=sent, stop=stop, max_tokens=12, **kwargs)["message"]["content"]

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        message = AIMessage(self._content(messages, stop, **kwargs), response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=message)])


class StreamingChatClient(ChatClient):
    """A chat client that streams."""

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for character in self._content(messages, stop, **kwargs):
            yield ChatGenerationChunk(message=AIMessageChunk(character))


@pytest.fixture
def server(spring_llama: SpringModel, random_tokens: SpringTokens) -> Iterator[ServedModel]:
    spring_llama.detach()
    with serve(spring_llama.backbone, spring_llama.tokenizer, random_tokens) as served:
        yield served


@pytest.fixture
def local(spring_llama: SpringModel, random_tokens: SpringTokens, server: ServedModel) -> SpringModel:
    return spring_llama.with_changes(tokens=random_tokens)


async def _collect(stream: Any) -> list[Any]:
    return [piece async for piece in stream]


CHAIN = """
from langchain_classic.chains import RetrievalQA
from spring_integrations.langchain import SpringHFLLM, SpringServedLLM

llm = SpringHFLLM(model=local, k=5, max_new_tokens=12)
chain = RetrievalQA.from_chain_type(llm, retriever=retriever)
"""


def test_a_chain_moves_from_local_to_served_with_one_line(local: SpringModel, server: ServedModel) -> None:
    retriever = SpringRetriever(retriever=OverlapRetriever(docs=documents()[:2]))
    names: dict[str, Any] = {"local": local, "url": server.address, "Client": Client, "retriever": retriever}
    exec(CHAIN, names)
    wanted = names["chain"].invoke(QUESTION)["result"]
    swapped = CHAIN.replace(
        "SpringHFLLM(model=local, k=5, max_new_tokens=12)", "SpringServedLLM(llm=Client(url=url), k=5)"
    )
    assert sum(a != b for a, b in zip(CHAIN.split("\n"), swapped.split("\n"), strict=True)) == 1
    exec(swapped, names)
    collector = Collector()
    assert names["chain"].invoke(QUESTION, {"callbacks": [collector]})["result"] == wanted
    assert collector.boosts == [("langchain-stuff", 5)]
    assert server.requests[-1]["prompt"].endswith(f"\n\n{token_text(5)}Question: {QUESTION}\nHelpful Answer:")
    assert "\u2063" not in server.requests[-1]["prompt"]


@pytest.mark.parametrize("client", [Client, StreamingClient])
def test_every_form_of_call_gives_the_local_answer(
    local: SpringModel, server: ServedModel, client: type[Client]
) -> None:
    llm = SpringServedLLM(llm=client(url=server.address), k=8)
    here, handler = SpringHFLLM(model=local, max_new_tokens=12), TokenCollector()
    wanted = here.invoke(RAG)
    assert llm.invoke(RAG) == asyncio.run(llm.ainvoke(RAG)) == wanted
    assert llm.batch([RAG, "Lima is"]) == [wanted, here.invoke("Lima is")]
    assert "".join(llm.stream(RAG, {"callbacks": [handler]})) == wanted
    assert handler.boosts == [("question", 8)]
    assert "".join(handler.tokens) == (wanted if client is StreamingClient else "")
    assert "".join(asyncio.run(_collect(llm.astream(RAG)))) == wanted
    assert llm.invoke(RAG, stop=[wanted[4:6]]) == wanted[: wanted.index(wanted[4:6])]
    assert llm.bind(max_tokens=2).invoke(RAG) == here.invoke(RAG, max_tokens=2)
    assert server.token_counts == [8, 8, 8, 0, 8, 8, 8, 8]


def test_a_plain_prompt_is_sent_as_it_is(local: SpringModel, server: ServedModel) -> None:
    llm = SpringServedLLM(llm=Client(url=server.address), k=8)
    assert llm.invoke("Lima is") == SpringHFLLM(model=local, max_new_tokens=12).invoke("Lima is")
    assert server.requests[-1]["prompt"] == "Lima is"


def test_k_per_call_and_the_cache(local: SpringModel, server: ServedModel) -> None:
    llm = SpringServedLLM(llm=Client(url=server.address), k=8)
    chat = ChatSpringServed(llm=ChatClient(url=server.address), k=8)
    set_llm_cache(InMemoryCache())
    try:
        for _ in range(2):
            assert llm.invoke(RAG, k=2) == SpringHFLLM(model=local, k=2, max_new_tokens=12).invoke(RAG)
            assert llm.bind(k=0).invoke(RAG) == SpringHFLLM(model=local, k=0, max_new_tokens=12).invoke(RAG)
            SpringServedLLM(llm=llm.llm, k=5).invoke(RAG)
            asyncio.run(llm.ainvoke(RAG, k=3))
            chat.invoke(CHAT)
            chat.invoke(CHAT, k=4)
    finally:
        set_llm_cache(None)
    assert server.token_counts == [2, 0, 5, 3, 8, 4]
    assert len(list(llm.stream(RAG, k=1))) == 2
    assert server.token_counts[-1] == 1


@pytest.mark.parametrize("client", [ChatClient, StreamingChatClient])
def test_chats_give_the_local_answer(local: SpringModel, server: ServedModel, client: type[ChatClient]) -> None:
    chat = ChatSpringServed(llm=client(url=server.address), k=8)
    wanted = ChatSpringHF(model=local, max_new_tokens=12).invoke(CHAT).content
    answer = chat.invoke(CHAT)
    assert answer.content == asyncio.run(chat.ainvoke(CHAT)).content == wanted
    assert (answer.response_metadata["k"], answer.response_metadata["boundary"]) == (8, "last-turn")
    assert answer.response_metadata.get("finish_reason") == "stop"
    for chunks in (list(chat.stream(CHAT)), asyncio.run(_collect(chat.astream(CHAT)))):
        assert "".join(chunk.content for chunk in chunks) == wanted
        assert {"k": 8, "boundary": "last-turn"}.items() <= {
            n: v for chunk in chunks for n, v in chunk.response_metadata.items()
        }.items()
    system, human = server.requests[-1]["messages"]
    assert system["content"] == "Use these facts.\nLima is the capital of Peru."
    assert human["content"] == token_text(8) + QUESTION
    assert MARK in CHAT[0].content


def test_blocks_of_a_message_keep_their_place() -> None:
    seen: list[BaseMessage] = []

    class Recorder(ChatClient):
        """Keeps what it would send."""

        def _content(self, messages: list[BaseMessage], stop: list[str] | None, **kwargs: Any) -> str:
            seen.extend(messages)
            return ""

    picture = {"type": "image_url", "image_url": {"url": "http://x"}}
    message = HumanMessage([{"type": "text", "text": f"Lima.{MARK}"}, picture, "Where is it?"])
    ChatSpringServed(llm=Recorder(url=""), k=2).invoke([message])
    assert seen[0].content == [{"type": "text", "text": "Lima."}, picture, "[ref1][ref2]Where is it?"]
    assert message.content[0]["text"].endswith(MARK)


def test_tools_are_the_wrapped_models(server: ServedModel) -> None:
    def add(a: int) -> int:
        """Adds."""
        return a

    bound = ChatSpringServed(llm=ChatClient(url=server.address), k=2).bind_tools([add], tool_choice="any")
    bound.invoke(CHAT)
    assert server.requests[-1]["tools"][0]["function"]["name"] == "add"
    assert (server.requests[-1]["tool_choice"], server.token_counts[-1]) == ("any", 2)

    class Elsewhere(ChatClient):
        """Its tools are bound to a model of another kind."""

        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return RunnableLambda(lambda _: AIMessage(""))

    with pytest.raises(ToolsError, match="tools of Elsewhere cannot be bound"):
        ChatSpringServed(llm=Elsewhere(url=""), k=2).bind_tools([add])


class OpenAILike(ChatClient):
    """Structured output and cache key as `ChatOpenAI` has them; it keeps what it is asked."""

    asked: list[dict[str, Any]] = Field(default_factory=list, exclude=True)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    def with_structured_output(self, schema: Any, *, include_raw: bool = False, **kwargs: Any) -> Any:
        bound = self.bind(response_format={"schema": schema, **kwargs}) | JsonOutputParser()
        return RunnableParallel(raw=bound.first) | (lambda raw: raw) if include_raw else bound

    def _content(self, messages: list[BaseMessage], stop: list[str] | None, **kwargs: Any) -> str:
        self.asked.append({"question": messages[-1].content, **kwargs})
        return '{"a": 1}'


def test_structured_output_is_the_wrapped_models() -> None:
    client = OpenAILike(url="")
    chat = ChatSpringServed(llm=client, k=2)
    schema = {"title": "a", "type": "object"}
    wanted = {"question": f"[ref1][ref2]{QUESTION}", "response_format": {"schema": schema, "strict": True}}
    wanted["response_format"]["method"] = "json_schema"
    assert chat.with_structured_output(schema, method="json_schema", strict=True).invoke(CHAT) == {"a": 1}
    raw = chat.with_structured_output(schema, method="json_schema", strict=True, include_raw=True).invoke(CHAT)["raw"]
    assert (raw.content, raw.response_metadata["k"]) == ('{"a": 1}', 2)
    assert client.asked == [wanted, wanted]


def test_two_servers_share_no_cached_answers() -> None:
    clients = [OpenAILike(url=url) for url in ("http://a", "http://b")]
    set_llm_cache(InMemoryCache())
    try:
        for client in clients * 2:
            ChatSpringServed(llm=client, k=2).invoke(CHAT)
    finally:
        set_llm_cache(None)
    assert [len(client.asked) for client in clients] == [1, 1]
    assert len({json.dumps(ChatSpringServed(llm=client, k=2)._identifying_params) for client in clients}) == 2


def test_langchains_settings_are_the_wrapped_models() -> None:
    limiter, collector = InMemoryRateLimiter(), Collector()
    taken = {"cache": False, "verbose": True, "tags": ["t"], "callbacks": [collector], "output_version": "v1"}
    client = ChatClient(url="", metadata={"a": 1}, rate_limiter=limiter, disable_streaming=True, **taken)
    client.profile = {"max_input_tokens": 7}
    chat = ChatSpringServed(llm=client, k=2)
    assert {name: getattr(chat, name) for name in taken} == taken
    assert (chat.rate_limiter, chat.disable_streaming) == (limiter, True)
    assert chat.profile["max_input_tokens"] == 7
    assert chat.metadata["a"] == 1
    assert ChatSpringServed(llm=client, k=2, tags=["other"], cache=None).tags == ["other"]
    llm = SpringServedLLM(llm=Client(url="", tags=["u"], cache=True, callbacks=[collector]), k=1)
    assert (llm.tags, llm.cache, llm.callbacks) == (["u"], True, [collector])


def test_no_k_in_a_call_is_the_models(server: ServedModel) -> None:
    SpringServedLLM(llm=Client(url=server.address), k=2).invoke(RAG, k=None)
    ChatSpringServed(llm=ChatClient(url=server.address), k=3).invoke(CHAT, k=None)
    assert server.token_counts == [2, 3]


def test_control_tokens_are_given_as_a_local_model_has_them() -> None:
    tokens = ("<|im_start|>",)
    for model in (
        SpringServedLLM(llm=Client(url=""), k=1, special_tokens=tokens),
        ChatSpringServed(llm=ChatClient(url=""), k=1, special_tokens=tokens),
    ):
        assert SpringRetriever(retriever=OverlapRetriever(docs=[]), special_tokens=model.special_tokens)
    assert SpringServedLLM(llm=Client(url=""), k=1).special_tokens == ()


class SlowClient(BaseLLM):
    """A client that sends prompts one by one, and counts its requests; "bad" is refused at once."""

    extra_body: dict[str, Any] | None = None
    asked: list[str] = Field(default_factory=list)
    lock: ClassVar = threading.Lock()
    under_way: int = 0
    most: int = 0

    @property
    def _llm_type(self) -> str:
        return "slow-client"

    @contextlib.contextmanager
    def _request(self, prompts: list[str]) -> Iterator[LLMResult]:
        self.asked.extend(prompts)
        if "bad" in prompts:
            raise ConnectionError
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            yield LLMResult(generations=[[Generation(text="ok")] for _ in prompts], llm_output={"model_name": "slow"})
        finally:
            with self.lock:
                self.under_way -= 1

    def _generate(self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        with self._request(prompts) as result:
            time.sleep(0.02)
            return result

    async def _agenerate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        with self._request(prompts) as result:
            await asyncio.sleep(0.02)
            return result


async def test_a_batch_has_no_more_than_32_requests_under_way() -> None:
    client = SlowClient()
    llm = SpringServedLLM(llm=client, k=1)
    assert llm.batch(["Hi"] * 80) == await llm.abatch(["Hi"] * 80) == ["ok"] * 80
    assert (client.most, len(client.asked)) == (32, 160)


async def test_the_first_failure_of_a_batch_ends_it() -> None:
    client = SlowClient()
    llm = SpringServedLLM(llm=client, k=1)
    prompts = ["Hi"] * 10 + ["bad"] + ["Hi"] * 290
    with pytest.raises(ConnectionError):
        llm.batch(prompts)
    assert len(client.asked) < 250
    client.asked.clear()
    with pytest.raises(ConnectionError):
        await llm.abatch(prompts)
    assert len(client.asked) < 250
    assert client.under_way == 0


async def test_no_prompts_are_what_the_client_says_to_none() -> None:
    llm = SpringServedLLM(llm=SlowClient(), k=1)
    for result in (llm.generate([]), await llm.agenerate([])):
        assert (result.generations, result.llm_output["model_name"]) == ([], "slow")


class Vectors:
    """Stands for `PromptEmbeds`."""

    def __call__(self, text: str) -> str:
        return "vectors"

    part = __call__


def test_embeds_that_cannot_be_made_or_sent_are_refused() -> None:
    with pytest.raises(SettingsError, match="Client has no extra_body to send embeds in"):
        SpringServedLLM(llm=Client(url=""), k=1, embeds=Vectors())
    for embeds in ("x", Vectors().__call__):  # of a chat, parts are sent, which a mere function does not make
        with pytest.raises(SettingsError, match="cannot turn prompts into vectors"):
            ChatSpringServed(llm=ChatClient(url=""), k=1, embeds=embeds)
    with pytest.raises(SettingsError, match="embeds='x' cannot turn prompts into vectors"):
        SpringServedLLM(llm=Client(url=""), k=1, embeds="x")


def test_missing_boundary_and_impossible_values(server: ServedModel) -> None:
    client = Client(url=server.address)
    with pytest.raises(BoundaryError, match="no boundary between context and question"):
        SpringServedLLM(llm=client, k=2, on_missing_boundary="error").invoke("Hi")
    with pytest.raises(TokenCountError, match="k=-1"):
        SpringServedLLM(llm=client, k=-1)
    with pytest.raises(PromptError, match="not a regular expression"):
        SpringServedLLM(llm=client, k=1, boundary_rule="(")
    with pytest.raises(ValidationError, match="BaseChatModel"):
        ChatSpringServed(llm=client, k=1)
    with pytest.raises(ValidationError, match="kk"):
        SpringServedLLM(llm=client, k=1, kk=2)
    ruled = SpringServedLLM(llm=client, k=1, boundary_rule="Facts: {context}\nAsk: {question}")
    ruled.invoke("Facts: Lima\nAsk: which?")
    assert server.requests[-1]["prompt"] == "Facts: Lima\n[ref1]Ask: which?"
    assert ruled._get_ls_params()["ls_temperature"] == 0
    counted = SpringServedLLM(llm=Client(url="", custom_get_token_ids=lambda text: list(text.encode())), k=1)
    assert counted.get_num_tokens(f"abc{MARK}") == 3
    assert SpringServedLLM(llm=client, k=1, custom_get_token_ids=lambda _: [1]).get_num_tokens("abc") == 1
