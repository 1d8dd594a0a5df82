"""The same chain, local and on a real serving engine, gives the same answers.

`make test-engines` installs what llama.cpp needs and runs this for transformers and llama.cpp. vLLM is asked where a
server is named: SPRING_VLLM_URL=http://localhost:8000/v1; start it with --dtype float32 --enable-prompt-embeds.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_driver
import openai
import pytest
from evaluation_kit import QUESTIONS
from langchain_classic.chains import RetrievalQA
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from langchain_parts import OverlapRetriever, documents
from llama_index.core import VectorStoreIndex
from llama_index.llms.openai_like import OpenAILike
from llama_index_kit import NODES, HashEmbedding

from spring_integrations import MARK, SpringModel, SpringTokens
from spring_integrations.demo.model import DEMO
from spring_integrations.evaluation import evaluate
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.export import PromptEmbeds
from spring_integrations.langchain import (
    SPRING_PROMPT,
    ChatSpringHF,
    ChatSpringServed,
    SpringHFLLM,
    SpringRetriever,
    SpringServedLLM,
)
from spring_integrations.llama_index import SpringHFLLM as LocalLlamaIndex
from spring_integrations.llama_index import SpringNodePostprocessor, text_qa_template
from spring_integrations.llama_index import SpringServedLLM as ServedLlamaIndex
from spring_integrations.runtime.backbone import Backbone

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "engines"))
import start

pytestmark = pytest.mark.engine

MERGED = start.folder() / "merged"
NEW = 12
RAG = SPRING_PROMPT.format(context=f"Lima is the capital of Peru.{MARK}", question="What is the capital of Peru?")
STORY = "Once upon a time"
TURNS = [SystemMessage(f"Use these facts.\nLima is the capital of Peru.{MARK}"), HumanMessage("Where is Lima?")]
CITIES = ("Lima", "Oslo", "Quito", "Accra", "Cairo", "Bern", "Rome", "Hanoi")
COUNTRIES = ("Peru", "Norway", "Ecuador", "Ghana")
MANY = [
    SPRING_PROMPT.format(context=f"{city} is the capital of {country}.{MARK}", question=f"Where is {city}?")
    for city in CITIES
    for country in COUNTRIES
]


@pytest.fixture(scope="module", params=start.ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[start.Server]:
    if reason := start.missing(request.param):
        pytest.skip(reason)
    log = tmp_path_factory.mktemp(request.param) / "log.txt"
    with start.running(request.param, log, model="demo", tokens=None, merged=MERGED, dtype="float32") as running:
        yield running


@pytest.fixture(scope="module")
def spring() -> SpringModel:
    """The local model in float32, its virtual tokens rounded as those of an export in bfloat16 are."""
    tokens = SpringTokens.load(DEMO.tokens)
    rounded = SpringTokens(tokens.embeddings.bfloat16().float(), tokens.metadata)
    return SpringModel(Backbone.load("demo", dtype="float32"), tokens=rounded)


@pytest.fixture(scope="module")
def local(spring: SpringModel) -> SpringHFLLM:
    return SpringHFLLM(model=spring, max_new_tokens=NEW)


def client(server: start.Server, **options: Any) -> OpenAI:
    named = {"base_url": server.url, "api_key": "-", "model": server.model, "max_retries": 0}
    return OpenAI(**{**named, "max_tokens": NEW, "temperature": 0, **options})


@pytest.fixture(scope="module")
def many_answers(local: SpringHFLLM) -> list[str]:
    return local.bind(max_new_tokens=4).batch(MANY)


@pytest.fixture
def served(server: start.Server) -> SpringServedLLM:
    return SpringServedLLM(llm=client(server), k=50)


def test_retrieval_qa(served: SpringServedLLM, local: SpringHFLLM) -> None:
    def answers(llm: Any) -> list[str]:
        retriever = SpringRetriever(retriever=OverlapRetriever(docs=documents()))
        chain = RetrievalQA.from_chain_type(llm, retriever=retriever, chain_type_kwargs={"prompt": SPRING_PROMPT})
        asked = ("Who got the first Nobel Prize in Physics?", "What is the capital of Peru?")
        return [chain.invoke(question)["result"] for question in asked]

    assert answers(served) == answers(local)
    assert "Röntgen" in answers(served)[0]


def test_llama_index_query_engine(server: start.Server, spring: SpringModel) -> None:
    named = {"api_base": server.url, "api_key": "-", "model": server.model, "max_retries": 0}
    inner = OpenAILike(**named, max_tokens=NEW, temperature=0, context_window=2000)
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())

    def answer(llm: Any) -> str:
        options = {"node_postprocessors": [SpringNodePostprocessor()], "text_qa_template": text_qa_template}
        return str(index.as_query_engine(llm=llm, similarity_top_k=2, **options).query("What is the capital of Peru?"))

    llm, local = ServedLlamaIndex(inner, k=50), LocalLlamaIndex(model=spring, max_new_tokens=NEW)
    assert answer(llm).strip() == answer(local).strip()
    states = list(llm.stream_complete(STORY))
    assert len(states) > 2
    assert states[-1].text == "".join(state.delta or "" for state in states) == llm.complete(STORY).text


def test_k_is_chosen_per_call(served: SpringServedLLM, local: SpringHFLLM) -> None:
    for k in (0, 1, 20):
        assert served.invoke(RAG, k=k) == local.invoke(RAG, k=k)
    assert served.invoke("Lima is") == local.invoke("Lima is")


def test_chat(server: start.Server, spring: SpringModel) -> None:
    named = {"base_url": server.url, "api_key": "-", "model": server.model, "max_retries": 0}
    chat = ChatSpringServed(llm=ChatOpenAI(**named, max_tokens=NEW, temperature=0), k=50)
    local = ChatSpringHF(model=spring, max_new_tokens=NEW)
    assert chat.invoke(TURNS).content == local.invoke(TURNS).content
    assert "".join(chunk.text for chunk in chat.stream(TURNS)) == chat.invoke(TURNS).content


def test_streaming(served: SpringServedLLM, local: SpringHFLLM) -> None:
    pieces = list(served.stream(STORY))
    assert len([piece for piece in pieces if piece]) > 2
    assert "".join(pieces) == local.invoke(STORY)
    assert "".join(served.stream(RAG)) == local.invoke(RAG)


async def test_32_concurrent_requests(server: start.Server, many_answers: list[str]) -> None:
    served = SpringServedLLM(llm=client(server, max_tokens=4), k=50)
    assert len(set(many_answers)) >= len(CITIES)
    assert served.batch(MANY) == many_answers
    assert await served.abatch(MANY[4:8]) == many_answers[4:8]


@pytest.mark.parametrize("streamed", [False, True])
def test_stop_strings(served: SpringServedLLM, local: SpringHFLLM, streamed: bool) -> None:
    whole = local.invoke(STORY)
    middle = len(whole) // 2
    stop = [whole[middle : middle + 3], "never said"]

    def answer(llm: Any) -> str:
        return "".join(llm.stream(STORY, stop=stop)) if streamed else llm.invoke(STORY, stop=stop)

    assert answer(served) == answer(local) == whole[: whole.index(stop[0])]


def test_a_cut_stream_leaves_the_server_answering(server: start.Server, local: SpringHFLLM) -> None:
    long = SpringServedLLM(llm=client(server, max_tokens=60), k=50)  # transformers serve can go on to the end of each
    for _ in range(3):
        stream = long.stream(STORY)
        next(stream)
        stream.close()
    assert SpringServedLLM(llm=client(server), k=50).invoke(RAG) == local.invoke(RAG)


def test_a_slow_server_is_a_timeout_and_answers_the_next_request(server: start.Server, local: SpringHFLLM) -> None:
    hurried = SpringServedLLM(llm=client(server, max_tokens=60, request_timeout=0.01), k=50)
    with pytest.raises(openai.APITimeoutError):
        hurried.invoke(STORY)
    assert SpringServedLLM(llm=client(server), k=50).invoke(RAG) == local.invoke(RAG)


def test_a_server_that_is_down_is_a_connection_error(server: start.Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    down = SpringServedLLM(llm=client(server, base_url=f"http://127.0.0.1:{port}/v1"), k=50)
    with pytest.raises(openai.APIConnectionError):
        down.invoke(RAG)
    with pytest.raises(openai.APIConnectionError):
        next(down.stream(RAG))


def test_prompt_embeddings_of_the_plain_backbone(server: start.Server, local: SpringHFLLM) -> None:
    if server.engine != "vllm":
        pytest.skip(f"{server.engine} takes no prompt embeddings")
    embeds = PromptEmbeds.load("demo", SpringTokens.load(DEMO.tokens))
    served = SpringServedLLM(llm=client(server), k=50, embeds=embeds)
    for k in (0, 1, 50):
        assert served.invoke(RAG, k=k) == local.invoke(RAG, k=k)
    assert served.batch(MANY[:8]) == local.batch(MANY[:8])
    assert "".join(served.stream(RAG)) == local.invoke(RAG)
    named = {"base_url": server.url, "api_key": "-", "model": server.model, "max_tokens": NEW, "temperature": 0}
    chat = ChatSpringServed(llm=ChatOpenAI(**named), k=50, embeds=embeds)
    assert chat.invoke(TURNS).content == ChatSpringHF(model=local.model, max_new_tokens=NEW).invoke(TURNS).content


def test_workers_of_a_cluster_hold_vllm_engines(spring: SpringModel, tmp_path: Path) -> None:
    python = start.folder() / "vllm" / "bin" / "python"
    if not (start.folder() / "vllm" / ".installed").exists():
        pytest.skip("vLLM is not installed; install it with: make .engines/vllm/.installed")
    driver, root = Path(engine_driver.__file__), Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{driver.parent}:{root}", "VLLM_CPU_KVCACHE_SPACE": "1"}
    subprocess.run([python, driver, MERGED, tmp_path / "vllm"], env=environment, check=True, timeout=500)
    systems = engine_driver.systems(spring)
    whole = evaluate(QUESTIONS, systems, tmp_path / "one", **engine_driver.ASKED).predictions()
    found = RunFolder(tmp_path / "vllm").predictions()
    assert {key: p.text for key, p in found.items()} == {key: p.text for key, p in whole.items()}
    assert len(found) == len(QUESTIONS) * 5
