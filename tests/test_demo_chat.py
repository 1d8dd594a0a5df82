"""The model "demo" chats offline through its own template: LangChain, LangGraph and LlamaIndex."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_parts import OverlapRetriever, documents
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import create_react_agent
from llama_index.core import VectorStoreIndex
from llama_index_kit import NODES, HashEmbedding, recorded_events
from llama_index_kit import QUESTION as CAPITAL

from spring_integrations import SpringModel
from spring_integrations.errors import ToolsError
from spring_integrations.langchain import ChatSpringHF, SpringRetriever
from spring_integrations.llama_index import SpringHFLLM

pytestmark = pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10")

HELLO = [SystemMessage("You answer in one sentence."), HumanMessage("What is the capital of France?")]


@pytest.fixture
def chat(demo_model: SpringModel) -> ChatSpringHF:
    return ChatSpringHF(model=demo_model, max_new_tokens=16)


@pytest.fixture
def retriever() -> SpringRetriever:
    return SpringRetriever(retriever=OverlapRetriever(docs=documents()[:2]))


def test_by_its_name_it_chats_as_transformers_renders_the_chat() -> None:
    chat = ChatSpringHF("demo", max_new_tokens=16)
    answer = chat.invoke(HELLO)
    assert "Paris" in answer.text
    assert answer.response_metadata["k"] == 0, "no retrieved context"
    roles = {"system": HELLO[0].text, "user": HELLO[1].text}
    conversation = [{"role": role, "content": text} for role, text in roles.items()]
    tokenizer, backbone = chat.model.tokenizer, chat.model.backbone
    ids = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = backbone.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert answer.text == tokenizer.decode(out, skip_special_tokens=True)


def test_it_streams_what_it_answers_to_several_turns(chat: ChatSpringHF) -> None:
    turns = [HumanMessage("My name is Bertha."), AIMessage("Hello Bertha!"), HumanMessage("What is my name?")]
    answer = chat.invoke(turns)
    assert answer.text != chat.invoke(turns[-1:]).text
    assert "".join(piece.text for piece in chat.stream(turns)) == answer.text


def test_a_langgraph_agent_answers_from_what_is_retrieved_and_keeps_its_thread(
    chat: ChatSpringHF, retriever: SpringRetriever
) -> None:
    def with_context(state: Any) -> list[BaseMessage]:
        found = retriever.invoke(state["messages"][-1].text)
        return [SystemMessage("\n\n".join(doc.page_content for doc in found)), *state["messages"]]

    agent = create_react_agent(chat, [], prompt=with_context, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "one"}}
    asked = ["What is the capital of Peru?", "Who got the first Nobel Prize in Physics?"]
    for question in asked:
        messages = agent.invoke({"messages": [("user", question)]}, thread)["messages"]
        assert messages[-1].response_metadata["k"] == 50
        assert messages[-1].response_metadata["boundary"] == "last-turn"
        assert messages[-1].text
    assert [m.text for m in messages if isinstance(m, HumanMessage)] == asked
    assert len(messages) == 4


def test_an_agent_with_tools_is_told_that_the_template_has_none(chat: ChatSpringHF) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    with pytest.raises(ToolsError, match="the chat template of demo does not write tools"):
        create_react_agent(chat, [add])


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "simple"])
def test_a_llama_index_chat_engine_talks(demo_model: SpringModel, mode: str) -> None:
    llm = SpringHFLLM(model=demo_model, max_new_tokens=16)
    assert llm.metadata.is_chat_model
    index = VectorStoreIndex(list(NODES), embed_model=HashEmbedding())
    engine = index.as_chat_engine(chat_mode=mode, llm=llm, similarity_top_k=2)
    with recorded_events() as seen:
        first = engine.chat(CAPITAL)
        second = "".join(engine.stream_chat("And of Norway?").response_gen)
    assert str(first)
    assert second
    assert [m.content for m in engine.chat_history] == [CAPITAL, str(first), "And of Norway?", second]
    done = [e.response.raw for e in seen if type(e).__name__ == "LLMChatEndEvent" and e.response]
    answers = [(raw["k"], raw["boundary"]) for raw in done]
    assert answers[0] == answers[-1] == ((0, None) if mode == "simple" else (50, "last-turn"))


def test_a_llama_index_chat_is_answered_by_the_plain_model_where_nothing_is_retrieved() -> None:
    llm = SpringHFLLM("demo", max_new_tokens=16)
    assert "Paris" in llm.complete("What is the capital of France?").text
