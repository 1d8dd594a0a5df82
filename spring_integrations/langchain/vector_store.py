"""Any LangChain vector store in the place of Chroma: bulk ingest that can be stopped, and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import SettingsError
from spring_integrations.langchain.passages import as_document, as_passage
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import check_top
from spring_integrations.retrieval.ingest import CONTENT, ID, Vectors, WrappedStore, key_of, stored_marks

_NOT_THEIRS = (ID, CONTENT, "_id", "_collection_name")  # the last two are Qdrant's, which leaves `Document.id` empty


class PassageVectorStore(WrappedStore):
    """A vector store as an index of passages: for a corpus that outgrows one machine.

    The store embeds with its own `Embeddings`; `SpringEmbeddings` gives it those of this package. Ids
    are UUIDs made of the passages' own ids or contents, so adding twice adds nothing.
    """

    takes_vectors = False

    def __init__(
        self, store: VectorStore, *, scores: Literal["similarity", "distance"] = "similarity", batch_size: int = 512
    ) -> None:
        """Wraps a vector store.

        Args:
            store: any one; where it has no `get_by_ids`, it cannot be seen what is in, and every passage is
                embedded and written again.
            scores: what its `similarity_search_with_score` returns: Qdrant, Milvus with inner product and
                Elasticsearch similarities, Chroma, FAISS and PGVector distances.
            batch_size: passages a write.
        """
        super().__init__(store, batch_size)
        self._sign = -1.0 if scores == "distance" else 1.0

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = 3) -> list[Passage]:
        """Returns the `top` nearest passages, best first, with scores of which the greater is the better.

        Raises:
            SettingsError: if `top` is below 1, or the store's scores run the other way than `scores` says.
        """
        found = self.store.similarity_search_with_score(query, check_top(top))
        values = [self._sign * float(score) for _, score in found]
        if values and values[0] < values[-1]:
            msg = f"{type(self.store).__name__} gives {found[0][1]} for the best and {found[-1][1]} for the last: "
            other = "similarity" if self._sign < 0 else "distance"
            raise SettingsError(msg + f"give scores={other!r}")
        return [replace(_as_found(document), score=value) for (document, _), value in zip(found, values, strict=True)]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = 3) -> list[list[Passage]]:
        """Returns what `search` returns, for each query."""
        return [self.search(query, top) for query in queries]

    def held(self, keys: list[str]) -> dict[str, str]:
        """Returns the content hashes of those keys that are in."""
        found = self.store.get_by_ids(keys)
        return {key_of(_as_found(document)): document.metadata.get(CONTENT, "") for document in found}

    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields nothing: the store embeds what it writes."""
        return iter(())

    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what is there.

        Args:
            passages: with ids.
            vectors: one for each passage, [passages, d].
        """
        self.store.add_documents([_as_stored(p) for p in passages.values()], ids=list(passages))


def _as_stored(passage: Passage) -> Document:
    # The title is part of the text, because that is what the store embeds.
    marks = stored_marks(passage)
    return Document(passage.titled(), metadata=as_document(passage).metadata | marks)


def _as_found(document: Document) -> Passage:
    found = as_passage(document)
    rest = {name: value for name, value in found.metadata.items() if name not in _NOT_THEIRS}
    text = found.text.removeprefix(f"{found.title}\n")
    passage = replace(found, text=text, id=document.metadata.get(ID, ""), metadata=rest)
    return passage if passage.id else replace(passage, id=key_of(passage))
