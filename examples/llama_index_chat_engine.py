"""A LlamaIndex chat engine: each turn retrieves, and the tokens open its question."""

from __future__ import annotations

from llama_index.core import Document, VectorStoreIndex

from spring_integrations.llama_index import SpringEmbedding, SpringHFLLM, SpringNodePostprocessor

TEXTS = [
    "The steamship Yavari was built in England in 1862 and carried over the Andes to Lake Titicaca.",
    "Lake Tanganyika reaches a depth of about 1,470 metres.",
    "The stethoscope was invented in Paris in 1816 by René Laennec.",
]


def main() -> None:
    """Chats for two turns; the second answer is streamed."""
    documents = [Document(text=text) for text in TEXTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=SpringEmbedding("minilm"))
    chat = index.as_chat_engine(
        chat_mode="context",
        llm=SpringHFLLM("demo", max_new_tokens=16),
        node_postprocessors=[SpringNodePostprocessor()],
        similarity_top_k=1,
    )
    print(chat.chat("Where was the stethoscope invented?"))
    for piece in chat.stream_chat("How deep is Lake Tanganyika?").response_gen:
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
