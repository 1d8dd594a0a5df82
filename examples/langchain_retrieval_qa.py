"""LangChain's RetrievalQA, with virtual tokens after two swaps: the model, and the wrapper around the retriever."""

from __future__ import annotations

from langchain_chroma import Chroma
from langchain_classic.chains import RetrievalQA

from spring_integrations.langchain import SPRING_PROMPT, SpringEmbeddings, SpringHFLLM, SpringRetriever

TEXTS = [
    "The steamship Yavari was built in England in 1862 and carried over the Andes to Lake Titicaca.",
    "Lake Tanganyika reaches a depth of about 1,470 metres.",
    "The stethoscope was invented in Paris in 1816 by René Laennec.",
]


def main() -> None:
    """Asks one question with its sources."""
    store = Chroma.from_texts(TEXTS, SpringEmbeddings("minilm"))
    retriever = SpringRetriever(retriever=store.as_retriever(search_kwargs={"k": 2}))
    chain = RetrievalQA.from_chain_type(
        SpringHFLLM("demo"),
        retriever=retriever,
        return_source_documents=True,
        chain_type_kwargs={"prompt": SPRING_PROMPT},
    )
    answer = chain.invoke("Where was the stethoscope invented?")
    print(answer["result"])
    for document in answer["source_documents"]:
        print("from:", document.page_content)


if __name__ == "__main__":
    main()
