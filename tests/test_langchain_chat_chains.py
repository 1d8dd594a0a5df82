"""LangChain's chains on `ChatSpringHF`, a LangGraph graph, one backbone for many chains, and models of others."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import pytest
import tiny_models
from langchain_classic.chains import (
    ConversationalRetrievalChain,
    RetrievalQA,
    create_history_aware_retriever,
    create_retrieval_chain,
)
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_classic.chains.question_answering import map_rerank_prompt
from langchain_classic.output_parsers.regex import RegexParser
from langchain_community.llms import HuggingFacePipeline
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import LLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import LLMResult
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnablePassthrough
from langchain_parts import QUESTION, TEXTS, Collector, OverlapRetriever, chroma, documents, visible
from langgraph.graph import END, START, StateGraph
from pydantic import Field
from transformers import pipeline

from spring_integrations import MARK, SpringModel, SpringTokens
from spring_integrations.langchain import SPRING_PROMPT, ChatSpringHF, SpringHFLLM, SpringRetriever

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

SYSTEM_PROMPT = ChatPromptTemplate.from_messages([("system", "Facts:\n{context}"), ("human", "{input}")])


class ChatCollector(BaseCallbackHandler):
    """Collects the messages and what was done of all calls of a chat model."""

    def __init__(self) -> None:
        self.messages: list[list[BaseMessage]] = []
        self.boosts: list[tuple[str | None, int]] = []

    def on_chat_model_start(self, serialized: Any, messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self.messages += messages

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        infos = [g.generation_info for row in response.generations for g in row]
        self.boosts += [(info["boundary"], info["k"]) for info in infos if info]


@pytest.fixture
def model(llama: Any, random_tokens: SpringTokens) -> SpringModel:
    llama[0].config.max_position_embeddings = 16_384  # the stock few-shot prompts are long
    return SpringModel(*llama, random_tokens)


@pytest.fixture
def chat(model: SpringModel) -> ChatSpringHF:
    return ChatSpringHF(model=model, max_new_tokens=6)


@pytest.fixture
def retriever() -> SpringRetriever:
    return SpringRetriever(retriever=chroma())


def format_docs(docs: list[Document]) -> str:
    return "\n\n".join(doc.page_content for doc in docs)


class AnyText(RegexParser):
    """A random model never writes the score that the stock parser demands."""

    def parse(self, text: str) -> dict[str, str]:
        return {"answer": text, "score": "1"}


RERANK = map_rerank_prompt.PROMPT.model_copy(
    update={"output_parser": AnyText(regex="", output_keys=["answer", "score"])}
)


@pytest.mark.parametrize(
    ("chain_type", "options", "boosts"),
    [
        ("stuff", {}, [("last-turn", 8)]),
        ("refine", {}, [("last-turn", 8), ("refine", 8)]),
        ("map_reduce", {"token_max": 8_000}, [("last-turn", 8)] * 3),
        ("map_rerank", {"prompt": RERANK}, [("langchain-stuff", 8)] * 2),
    ],
)
def test_retrieval_qa(
    chat: ChatSpringHF, retriever: SpringRetriever, chain_type: str, options: Any, boosts: list[Any]
) -> None:
    collector = ChatCollector()
    chain = RetrievalQA.from_chain_type(
        chat, chain_type=chain_type, retriever=retriever, chain_type_kwargs=options, return_source_documents=True
    )
    result = chain.invoke(QUESTION, {"callbacks": [collector]})
    assert collector.boosts == boosts
    assert len(result["source_documents"]) == 2
    assert {visible(d.page_content) for d in result["source_documents"]} <= set(TEXTS)


def test_conversational_retrieval(chat: ChatSpringHF, retriever: SpringRetriever) -> None:
    collector = ChatCollector()
    chain = ConversationalRetrievalChain.from_llm(chat, retriever)
    chain.invoke({"question": QUESTION, "chat_history": [("Who?", "Nobody.")]}, {"callbacks": [collector]})
    assert collector.boosts == [(None, 0), ("last-turn", 8)]


@pytest.mark.parametrize("kind", ["llm", "chat"])
def test_history_aware_retrieval(model: SpringModel, retriever: SpringRetriever, kind: str) -> None:
    llm = (ChatSpringHF if kind == "chat" else SpringHFLLM)(model=model, max_new_tokens=6)
    history = MessagesPlaceholder("chat_history")
    rephrase = ChatPromptTemplate.from_messages([("system", "Rephrase the question."), history, ("human", "{input}")])
    answer = ChatPromptTemplate.from_messages([("system", "Facts:\n{context}"), history, ("human", "{input}")])
    aware = create_history_aware_retriever(llm, retriever, rephrase)
    chain = create_retrieval_chain(aware, create_stuff_documents_chain(llm, answer))
    collector: Any = ChatCollector() if kind == "chat" else Collector()
    turns = [HumanMessage("Who?"), AIMessage("Nobody.")]
    result = chain.invoke({"input": QUESTION, "chat_history": turns}, {"callbacks": [collector]})
    assert collector.boosts == [(None, 0), ("last-turn", 8)]
    assert len(result["context"]) == 2
    first = chain.invoke({"input": QUESTION, "chat_history": []}, {"callbacks": [collector]})
    assert collector.boosts[-1] == ("last-turn", 8)
    assert {visible(d.page_content) for d in first["context"]} <= set(TEXTS)


def test_create_retrieval_chain_streams_and_runs_async(chat: ChatSpringHF, retriever: SpringRetriever) -> None:
    chain = create_retrieval_chain(retriever, create_stuff_documents_chain(chat, SYSTEM_PROMPT))
    collector = ChatCollector()
    result = chain.invoke({"input": QUESTION}, {"callbacks": [collector]})
    assert collector.boosts == [("last-turn", 8)]
    streamed = "".join(part["answer"] for part in chain.stream({"input": QUESTION}) if "answer" in part)
    assert streamed == result["answer"] == asyncio.run(chain.ainvoke({"input": QUESTION}))["answer"]


# LangGraph


class State(TypedDict, total=False):
    question: str
    context: list[Document]
    answer: str


def rag_graph(llm: Any, retriever: Any, prompt: Any) -> Any:
    """A graph of two steps: retrieve, then answer."""
    chain = prompt | llm

    def retrieve(state: State) -> State:
        return {"context": retriever.invoke(state["question"])}

    def asked(state: State) -> dict[str, str]:
        return {"context": format_docs(state["context"]), "question": state["question"], "input": state["question"]}

    def generate(state: State) -> State:
        return {"answer": getattr(done := chain.invoke(asked(state)), "content", done)}

    graph = StateGraph(State)
    graph.add_node("retrieve", retrieve)
    graph.add_node("generate", generate)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "generate")
    graph.add_edge("generate", END)
    return graph.compile()


@pytest.mark.parametrize("kind", ["llm", "chat"])
def test_a_langgraph_rag_graph(model: SpringModel, retriever: SpringRetriever, kind: str) -> None:
    llm: Any = (ChatSpringHF if kind == "chat" else SpringHFLLM)(model=model, max_new_tokens=6)
    collector: Any = ChatCollector() if kind == "chat" else Collector()
    graph = rag_graph(llm, retriever, SYSTEM_PROMPT if kind == "chat" else SPRING_PROMPT)
    result = graph.invoke({"question": QUESTION}, {"callbacks": [collector]})
    assert collector.boosts == [("last-turn" if kind == "chat" else "official", 8)]
    assert [visible(d.page_content) for d in result["context"]] == [d.page_content for d in chroma().invoke(QUESTION)]
    assert asyncio.run(graph.ainvoke({"question": QUESTION}))["answer"] == result["answer"]
    if kind == "chat":
        pieces = [m.content for m, _ in graph.stream({"question": QUESTION}, stream_mode="messages")]
        assert len(pieces) > 2
        assert "".join(pieces) == result["answer"]


# One backbone for many, the swap, and other models


def test_mixed_chains_in_threads_give_what_they_give_alone(model: SpringModel, retriever: SpringRetriever) -> None:
    inputs = {"context": retriever | format_docs, "question": RunnablePassthrough(), "input": RunnablePassthrough()}

    def ask(i: int) -> str:
        question, k = f"{QUESTION} {i % 3}", (0, 2, 5, 8)[i % 4]
        if i % 2:
            chain: Any = inputs | SYSTEM_PROMPT | ChatSpringHF(model=model, max_new_tokens=6).bind(k=k)
        else:
            chain = inputs | SPRING_PROMPT | SpringHFLLM(model=model, max_new_tokens=6).bind(k=k)
        parts = list(chain.stream(question)) if i % 3 else [chain.invoke(question)]
        return "".join(getattr(part, "content", part) for part in parts)

    alone = [ask(i) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(24))) == alone
    assert len(set(alone)) > 8


CHAIN = """
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.language_models import FakeListChatModel
from spring_integrations.langchain import ChatSpringHF

llm = FakeListChatModel(responses=["before"])
chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, prompt))
"""


def test_the_swap_of_a_chat_model_is_one_line(llama_folder: Path, tokens_file: Path) -> None:
    names: dict[str, Any] = {
        "retriever": SpringRetriever(retriever=chroma()), "prompt": SYSTEM_PROMPT,
        "model_id": str(llama_folder), "tokens_path": tokens_file,
    }  # fmt: skip
    exec(CHAIN, names)
    assert names["chain"].invoke({"input": QUESTION})["answer"] == "before"
    swapped = CHAIN.replace('FakeListChatModel(responses=["before"])', "ChatSpringHF(model_id, tokens_path)")
    assert sum(a != b for a, b in zip(CHAIN.split("\n"), swapped.split("\n"), strict=True)) == 1
    exec(swapped, names)
    collector = ChatCollector()
    names["chain"].invoke({"input": QUESTION}, {"callbacks": [collector]})
    assert collector.boosts == [("last-turn", 8)]
    model, words = tiny_models.build("llama")
    conversation = [{"role": "user", "content": "Lima is"}]
    ids = words.apply_chat_template(conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=64, do_sample=False, pad_token_id=0)[0, ids.input_ids.shape[1] :]
    assert names["llm"].invoke("Lima is").content == words.decode(out, skip_special_tokens=True)


class PlainLLM(LLM):
    """A local model without anything of ours, as `HuggingFacePipeline` is; it quotes its context."""

    prompts: list[str] = Field(default_factory=list)
    model: Any
    words: Any

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        self.prompts.append(prompt)
        ids = self.words(prompt, return_tensors="pt")
        out = self.model.generate(**ids, max_new_tokens=2, do_sample=False, pad_token_id=0)
        assert len(out[0]) > ids.input_ids.shape[1]
        return self.words.decode(ids.input_ids[0], skip_special_tokens=True)


def test_a_model_of_others_shows_no_junk(model: SpringModel) -> None:
    words = tiny_models.tokenizer("byte-level")
    plain = PlainLLM(model=tiny_models.model("llama", words), words=words)
    for retriever in (OverlapRetriever(docs=documents()[:2]), chroma()):
        result = [
            RetrievalQA.from_chain_type(plain, retriever=r, return_source_documents=True).invoke(QUESTION)
            for r in (retriever, SpringRetriever(retriever=retriever))
        ]
        assert visible(result[1]["result"]) == result[0]["result"]
        assert MARK in result[1]["result"], "the prompt held marks, and nobody saw them"
        sources = [[visible(d.page_content) for d in r["source_documents"]] for r in result]
        assert sources[0] == sources[1]
        assert visible(plain.prompts[-1]) == plain.prompts[-2]


@pytest.mark.filterwarnings("ignore:The class `HuggingFacePipeline` was deprecated")
def test_a_hugging_face_pipeline_works_with_our_retriever() -> None:
    model, words = tiny_models.build("llama")
    generator = pipeline("text-generation", model=model, tokenizer=words)
    llm = HuggingFacePipeline(pipeline=generator, pipeline_kwargs={"max_new_tokens": 4, "do_sample": False})
    retriever = chroma()
    prompts, sources = [], []
    for wrapped in (retriever, SpringRetriever(retriever=retriever)):
        chain = RetrievalQA.from_chain_type(llm, retriever=wrapped, return_source_documents=True)
        seen = PromptCollector()
        result = chain.invoke(QUESTION, {"callbacks": [seen]})
        assert isinstance(result["result"], str)
        prompts += seen.prompts
        sources.append([visible(d.page_content) for d in result["source_documents"]])
    assert MARK in prompts[1]
    assert visible(prompts[1]) == prompts[0]
    assert sources[0] == sources[1]


class PromptCollector(BaseCallbackHandler):
    def __init__(self) -> None:
        self.prompts: list[str] = []

    def on_llm_start(self, serialized: Any, prompts: list[str], **kwargs: Any) -> None:
        self.prompts += prompts
