"""Your own files: read, indexed by words and by vectors, searched by both, and swapped while a retriever runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from spring_integrations.langchain import PassageRetriever, SpringRetriever
from spring_integrations.retrieval import BM25Index, HybridIndex, LiveIndex, PassageStore, iter_passages, load_embedder

NOTES = {
    "titicaca.md": "# Yavari\n\nThe steamship was built in England in 1862 and carried over the Andes.",
    "tanganyika.txt": "Lake Tanganyika reaches a depth of about 1,470 metres.",
    "medicine.html": "<title>Stethoscope</title><p>Invented in Paris in 1816 by René Laennec.</p>",
}


def main() -> None:
    """Searches a hybrid index, then BM25 alone under the same retriever."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        notes.mkdir()
        for name, text in NOTES.items():
            (notes / name).write_text(text, encoding="utf-8")
        words = BM25Index.build(iter_passages(notes))
        store = PassageStore.open(Path(folder, "store"), load_embedder("minilm"))
        store.add(iter_passages(notes))
        live = LiveIndex(HybridIndex([words, store]))
        retriever = SpringRetriever(retriever=PassageRetriever(index=live, k=1))
        print("hybrid:", retriever.invoke("Where was the stethoscope invented?")[0].metadata["source"])
        live.swap(words)
        print("bm25:", retriever.invoke("How deep is Lake Tanganyika?")[0].metadata["source"])


if __name__ == "__main__":
    main()
