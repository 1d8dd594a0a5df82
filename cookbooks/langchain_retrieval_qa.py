"""LangChain, before and after: the same chains with and without virtual tokens.

At the end you have a Chroma store of the demo's passages, a `RetrievalQA` chain and an LCEL chain over
it, and each answer next to the one that the same frozen backbone gives without virtual tokens.
It needs the extra `demo`. For a model of your own, change MODEL (a hub id) and TOKENS (your tokens file).
"""

from __future__ import annotations

from langchain_chroma import Chroma
from langchain_classic.chains import RetrievalQA
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnablePassthrough

from spring_integrations.demo import load_demo
from spring_integrations.langchain import SPRING_PROMPT, SpringHFLLM, SpringRetriever
from spring_integrations.retrieval.embedders import MiniLMEmbedder

MODEL = "demo"
TOKENS = None  # "demo" brings its own


def format_docs(docs: list[Document]) -> str:
    return "\n\n".join(doc.page_content for doc in docs)


# 1. A store like any other: nothing of ours is in it. The embedding's weights come in a package.
demo = load_demo()
store = Chroma.from_texts(
    [p.text for p in demo.passages], MiniLMEmbedder(), metadatas=[{"title": p.title} for p in demo.passages]
)

# 2. The backbone, loaded once, with its virtual tokens and without (k=0).
llm = SpringHFLLM(MODEL, TOKENS, max_new_tokens=16, stop=["\n"])
plain = SpringHFLLM(model=llm.model, k=0, max_new_tokens=16, stop=["\n"])

# 3. The wrapped retriever marks where each passage ends; the prompt is the one of the training.
found = store.as_retriever(search_kwargs={"k": 3})
retriever = SpringRetriever(retriever=found, special_tokens=llm.special_tokens)
before, after = (
    RetrievalQA.from_chain_type(
        m, retriever=retriever, return_source_documents=True, chain_type_kwargs={"prompt": SPRING_PROMPT}
    )
    for m in (plain, llm)
)
for item in demo.questions[:6]:
    result = after.invoke(item.question)
    print(f"\n{item.question}\n  k=0:  {before.invoke(item.question)['result'].strip()}")
    print(f"  k={llm.k}: {result['result'].strip()}\n  expected: {item.answers[0]}")
    print("  sources:", ", ".join(doc.metadata["title"] for doc in result["source_documents"]))

# 4. What was done comes with every answer: how the boundary was found, how many tokens stand there.
question = demo.questions[0].question
prompt = SPRING_PROMPT.format(context=format_docs(retriever.invoke(question)), question=question)
print("\nWhat was done:", llm.generate([prompt]).generations[0][0].generation_info)

# 5. The same in LCEL, streamed; `bind` sets k or anything else for one chain.
inputs = {"context": retriever | format_docs, "question": RunnablePassthrough()}
for k in (1, llm.k):
    chain = inputs | SPRING_PROMPT | llm.bind(k=k) | StrOutputParser()
    print(f"k={k}: ", *chain.stream(question), sep="", flush=True)

# 6. A prompt without retrieved context gets exactly what the plain backbone gives.
print("Without context:", llm.invoke("A lake is") == plain.invoke("A lake is"))
