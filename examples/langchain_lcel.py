"""A chain of your own in LCEL: the mark at the end of each passage survives formatting; k is chosen for a call."""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnablePassthrough

from spring_integrations import Passage
from spring_integrations.langchain import PassageRetriever, SpringHFLLM, SpringRetriever
from spring_integrations.retrieval import BM25Index

PASSAGES = [
    Passage("The steamship Yavari was built in England in 1862 and carried over the Andes to Lake Titicaca."),
    Passage("Lake Tanganyika reaches a depth of about 1,470 metres."),
    Passage("The stethoscope was invented in Paris in 1816 by René Laennec."),
]
PROMPT = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer:")


def joined(documents: list[Document]) -> str:
    """Returns the passages as one text."""
    return "\n\n".join(document.page_content for document in documents)


def main() -> None:
    """Streams an answer, then gives it with fewer virtual tokens."""
    retriever = SpringRetriever(retriever=PassageRetriever(index=BM25Index.build(PASSAGES), k=1))
    llm = SpringHFLLM("demo", max_new_tokens=16)
    prompt = {"context": retriever | joined, "question": RunnablePassthrough()} | PROMPT
    for piece in (prompt | llm | StrOutputParser()).stream("Where was the stethoscope invented?"):
        print(piece, end="", flush=True)
    print()
    print("k = 10:", (prompt | llm.bind(k=10) | StrOutputParser()).invoke("How deep is Lake Tanganyika?"))


if __name__ == "__main__":
    main()
