"""A LlamaIndex query engine with virtual tokens, its prompts in the format of their training."""

from __future__ import annotations

from llama_index.core import Document, VectorStoreIndex

from spring_integrations.llama_index import (
    SpringEmbedding,
    SpringHFLLM,
    SpringNodePostprocessor,
    refine_template,
    text_qa_template,
)

TEXTS = [
    "The steamship Yavari was built in England in 1862 and carried over the Andes to Lake Titicaca.",
    "Lake Tanganyika reaches a depth of about 1,470 metres.",
    "The stethoscope was invented in Paris in 1816 by René Laennec.",
]


def main() -> None:
    """Asks one question with its sources."""
    documents = [Document(text=text) for text in TEXTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=SpringEmbedding("minilm"))
    engine = index.as_query_engine(
        llm=SpringHFLLM("demo", max_new_tokens=16),
        node_postprocessors=[SpringNodePostprocessor()],
        text_qa_template=text_qa_template,
        refine_template=refine_template,
        similarity_top_k=2,
    )
    response = engine.query("Where was the stethoscope invented?")
    print(response)
    for node in response.source_nodes:
        print(f"{node.score:.2f} {node.text}")


if __name__ == "__main__":
    main()
