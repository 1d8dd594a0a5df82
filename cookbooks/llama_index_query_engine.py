"""LlamaIndex, before and after: the same query engine with and without virtual tokens.

At the end you have a Chroma index of the demo's passages, a query engine and a chat engine over it,
and each answer next to the one that the same frozen backbone gives without virtual tokens.
For a model of your own, change MODEL (a hub id) and TOKENS (your tokens file).
"""

from __future__ import annotations

import chromadb
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.vector_stores.chroma import ChromaVectorStore

from spring_integrations.demo import load_demo
from spring_integrations.llama_index import SpringHFLLM, SpringNodePostprocessor, text_qa_template
from spring_integrations.retrieval.embedders import MiniLMEmbedder

MODEL = "demo"
TOKENS = None  # "demo" brings its own

minilm = MiniLMEmbedder()


class MiniLM(BaseEmbedding):
    """all-MiniLM-L6-v2 from a package, so that this runs without a model hub."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return minilm.embed_query(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return minilm.embed_documents(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return minilm.embed_query(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return minilm.embed_query(query)


# 1. An index like any other: nothing of ours is in it.
demo = load_demo()
collection = chromadb.EphemeralClient().create_collection("demo", metadata={"hnsw:space": "cosine"})
storage = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
nodes = [TextNode(id_=p.id, text=p.text) for p in demo.passages]
index = VectorStoreIndex(nodes, storage_context=storage, embed_model=MiniLM())

# 2. The backbone, loaded once, with its virtual tokens and without (k=0).
llm = SpringHFLLM(MODEL, TOKENS, max_new_tokens=16, stop=["\n"])
plain = SpringHFLLM(model=llm.model, k=0, max_new_tokens=16, stop=["\n"])
Settings.tokenizer = llm.tokenizer_fn

# 3. One more argument, the postprocessor, marks where each passage ends; the template is the one of the training.
marking = [SpringNodePostprocessor(special_tokens=llm.special_tokens)]
before, after = (
    index.as_query_engine(llm=m, similarity_top_k=3, node_postprocessors=marking, text_qa_template=text_qa_template)
    for m in (plain, llm)
)
right = {"before": 0, "after": 0}
questions = demo.questions[:: max(1, len(demo.questions) // 8)][:8]
for asked in questions:
    print(f"\n{asked.question}  (expected: {asked.answers[0]})")
    for name, engine in (("before", before), ("after", after)):
        answer = str(engine.query(asked.question)).strip()
        right[name] += any(a.lower() in answer.lower() for a in asked.answers)
        print(f"  {name:>6}: {answer}")
print(f"\nright of {len(questions)}: before {right['before']}, after {right['after']}")

# 4. A chat engine over the same index, streamed.
talk = index.as_chat_engine(chat_mode="context", llm=llm, similarity_top_k=2, node_postprocessors=marking)
print(f"\nchat: {questions[0].question}\n  ", end="")
for token in talk.stream_chat(questions[0].question).response_gen:
    print(token, end="", flush=True)

# 5. What was done stands with every direct answer; a prompt without context is the plain backbone's.
print("\n\nwithout context:", llm.complete("The capital of Peru is").raw)
