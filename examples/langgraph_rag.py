"""A LangGraph: one node retrieves, one answers through a chat model, and the state says how many tokens were used."""

from __future__ import annotations

from typing import TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph

from spring_integrations.demo import load_demo
from spring_integrations.langchain import ChatSpringHF, PassageRetriever, SpringRetriever
from spring_integrations.retrieval import BM25Index


class State(TypedDict, total=False):
    """What the nodes hand on."""

    question: str
    context: str
    answer: str
    k: int


retriever = SpringRetriever(retriever=PassageRetriever(index=BM25Index.build(load_demo().passages), k=2))
llm = ChatSpringHF("demo", max_new_tokens=16)


def retrieve(state: State) -> State:
    """Finds passages; the marks at their ends stay in the text."""
    return {"context": "\n\n".join(document.page_content for document in retriever.invoke(state["question"]))}


def answer(state: State) -> State:
    """Answers from the passages; the virtual tokens open the question in the last human turn."""
    system = SystemMessage(f"Answer from this context.\n{state['context']}")
    message = llm.invoke([system, HumanMessage(state["question"])])
    return {"answer": str(message.content), "k": message.response_metadata["k"]}


def main() -> None:
    """Builds the graph and asks it a question."""
    graph = StateGraph(State)
    graph.add_node("retrieve", retrieve)
    graph.add_node("answer", answer)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "answer")
    graph.add_edge("answer", END)
    state = graph.compile().invoke({"question": "Which river drains Lake Tanganyika?"})
    print(f"{state['answer']} (k = {state['k']})")


if __name__ == "__main__":
    main()
