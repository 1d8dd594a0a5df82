"""One loaded backbone under LangChain and LlamaIndex at once: every answer is the one that it is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_classic.chains import RetrievalQA
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnablePassthrough
from langchain_parts import OverlapRetriever
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index_kit import NODES, HashEmbedding, plain_backbone, recording_model, user

from spring_integrations import SpringModel, SpringTokens, langchain, llama_index

QUESTIONS = tuple(f"what is the capital of {land}?" for land in ("Peru", "Ghana", "Norway"))
THREADS = 8

Ask = Callable[[str], str]


@pytest.fixture
def spring(random_tokens: SpringTokens) -> SpringModel:
    return recording_model(random_tokens)


def retriever() -> langchain.SpringRetriever:
    documents = [Document(page_content=node.text, id=node.id_) for node in NODES]
    return langchain.SpringRetriever(retriever=OverlapRetriever(docs=documents))


def lcel(spring: SpringModel, k: int, kind: Any = langchain.SpringHFLLM) -> Runnable:
    context = retriever() | (lambda docs: "\n\n".join(doc.page_content for doc in docs))
    llm = kind(model=spring, k=k, max_new_tokens=7)
    inputs = {"context": context, "question": RunnablePassthrough()}
    return inputs | langchain.SPRING_PROMPT | llm | StrOutputParser()


def retrieval_qa(spring: SpringModel, k: int) -> Ask:
    llm = langchain.SpringHFLLM(model=spring, k=k, max_new_tokens=5)
    chain = RetrievalQA.from_chain_type(llm, retriever=retriever())
    return lambda question: str(chain.invoke(question)["result"])


def query_engine(spring: SpringModel, k: int, *, streaming: bool = False) -> BaseQueryEngine:
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
    return index.as_query_engine(
        llm=llama_index.SpringHFLLM(model=spring, k=k, max_new_tokens=7),
        node_postprocessors=[llama_index.SpringNodePostprocessor()],
        streaming=streaming,
    )


def chat_engine(spring: SpringModel, k: int) -> Ask:
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
    llm = llama_index.SpringHFLLM(model=spring, k=k, max_new_tokens=5)

    def ask(question: str) -> str:
        talk = index.as_chat_engine(
            chat_mode="context", llm=llm, node_postprocessors=[llama_index.SpringNodePostprocessor()]
        )
        return "".join(talk.stream_chat(question).response_gen)

    return ask


@pytest.mark.filterwarnings("ignore:.*RetrievalQA")
def test_both_frameworks_from_many_threads(spring: SpringModel) -> None:
    chain, other_chain, chat = lcel(spring, 8), lcel(spring, 0), lcel(spring, 5, langchain.ChatSpringHF)
    engine, streaming = query_engine(spring, 3), query_engine(spring, 1, streaming=True)
    ways: list[Ask] = [
        chain.invoke,
        lambda question: "".join(other_chain.stream(question)),
        lambda question: " | ".join(chain.batch([question, question + " and why?"])),
        lambda question: "".join(chat.stream(question)),
        retrieval_qa(spring, 2),
        lambda question: str(engine.query(question)),
        lambda question: "".join(streaming.query(question).response_gen),
        chat_engine(spring, 8),
        llama_index.SpringHFLLM(model=spring, max_new_tokens=5).complete,
    ]
    jobs = [(way, question) for question in QUESTIONS for way in ways]

    def answer(job: tuple[Ask, str]) -> str:
        return str(job[0](job[1]))

    alone = [answer(job) for job in jobs]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(answer, jobs * 2))
    assert together == alone * 2
    assert len(set(alone)) == len(jobs), "every way and question has an answer of its own"


def test_both_frameworks_in_one_event_loop(spring: SpringModel) -> None:
    chain, engine = lcel(spring, 8), query_engine(spring, 3)
    chat = llama_index.SpringHFLLM(model=spring, max_new_tokens=5)
    alone = [[chain.invoke(q), str(engine.query(q)), chat.chat([user(q)]).message.content] for q in QUESTIONS]

    async def ask(question: str) -> list[str]:
        async def streamed() -> str:
            return "".join([piece async for piece in chain.astream(question)])

        answers = await asyncio.gather(streamed(), engine.aquery(question), chat.achat([user(question)]))
        return [str(answers[0]), str(answers[1]), str(answers[2].message.content)]

    async def several() -> list[list[str]]:
        return await asyncio.gather(*(ask(question) for question in QUESTIONS))

    assert asyncio.run(several()) == alone


def test_the_frameworks_agree_and_leave_the_backbone_as_it_was(spring: SpringModel) -> None:
    one = langchain.SpringHFLLM(model=spring, k=4, max_new_tokens=8)
    other = llama_index.SpringHFLLM(model=spring, k=4, max_new_tokens=8, is_chat_model=False)
    prompt = spring.prompt([NODES[0].text], QUESTIONS[0]).marked()
    assert one.invoke(prompt) == other.complete(prompt).text != one.invoke(prompt, k=0)
    assert one.invoke("Hello") == other.complete("Hello").text == plain_backbone("Hello")
    assert one.model.backbone is other.model.backbone is spring.backbone
