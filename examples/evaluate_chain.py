"""Evaluation of a chain of your own, plain and with virtual tokens, on the demo's questions."""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnablePassthrough

from spring_integrations.demo import load_demo
from spring_integrations.evaluation import Question, evaluate_chain
from spring_integrations.langchain import PassageRetriever, SpringHFLLM, SpringRetriever
from spring_integrations.retrieval import BM25Index

PROMPT = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer:")
QUESTIONS = 3


def joined(documents: list[Document]) -> str:
    """Returns the passages as one text."""
    return "\n\n".join(document.page_content for document in documents)


def chain(llm: Runnable, retriever: Runnable) -> Runnable:
    """Returns a chain from a question to an answer."""
    return {"context": retriever | joined, "question": RunnablePassthrough()} | PROMPT | llm | StrOutputParser()


def main() -> None:
    """Prints exact match and F1 in percent for k = 0 and k = 50."""
    demo = load_demo()
    retriever = SpringRetriever(retriever=PassageRetriever(index=BM25Index.build(demo.passages), k=1))
    questions = [Question(str(i), q.question, q.answers) for i, q in enumerate(demo.questions[:QUESTIONS])]
    llm = SpringHFLLM("demo", max_new_tokens=12)
    for k in (0, 50):
        report = evaluate_chain(chain(llm.bind(k=k), retriever), questions)
        print(f"k = {k}:", report.scores)


if __name__ == "__main__":
    main()
