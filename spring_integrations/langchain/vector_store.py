"""Any LangChain vector store in the place of Chroma: bulk ingest that can be stopped, and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from spring_integrations._choices import check_choice
from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import SettingsError
from spring_integrations.langchain.passages import TITLE, as_document, as_passage
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import check_queries, check_top
from spring_integrations.retrieval.ingest import (
    CONTENT,
    ID,
    OnConflict,
    Vectors,
    WrappedStore,
    key_of,
    marked_key,
    stored_content,
    stored_marks,
)
from spring_integrations.retrieval.metadata import storable_metadata

_TITLE = "passage_title"
"""In the metadata of what is stored, beside a "title" that may be the user's."""
_NOT_THEIRS = (ID, CONTENT, _TITLE, "_id", "_collection_name")  # the last two are Qdrant's

Scores = Literal["similarity", "distance"]


class PassageVectorStore(WrappedStore):
    """A vector store as an index of passages: for a corpus that outgrows one machine.

    The store embeds with its own `Embeddings`; `SpringEmbeddings` gives it those of this package. Ids
    are UUIDs made of the passages' own ids or contents, so adding twice adds nothing.
    """

    takes_vectors = False

    def __init__(self, store: VectorStore, *, scores: Scores = "similarity", batch_size: int = 512) -> None:
        """Wraps a vector store.

        Args:
            store: any one; where it has no `get_by_ids`, it cannot be seen what is in, and every passage is
                embedded and written again.
            scores: what its `similarity_search_with_score` returns: Qdrant, Milvus with inner product and
                Elasticsearch similarities, Chroma, FAISS and PGVector distances.
            batch_size: passages a write.

        Raises:
            SettingsError: for other scores, or a batch of none.
        """
        super().__init__(store, batch_size)
        check_choice("scores", scores, Scores)
        self._sign = -1.0 if scores == "distance" else 1.0

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = 3) -> list[Passage]:
        """Returns the `top` nearest passages, best first, with scores of which the greater is the better.

        Raises:
            SettingsError: if `top` is below 1, or the store's scores run the other way than `scores` says.
        """
        (question,) = check_queries([query])
        found = self.store.similarity_search_with_score(question, check_top(top))
        values = [self._sign * float(score) for _, score in found]
        if values and values[0] < values[-1]:
            msg = f"{type(self.store).__name__} gives {found[0][1]} for the best and {found[-1][1]} for the last: "
            other = "similarity" if self._sign < 0 else "distance"
            raise SettingsError(msg + f"give scores={other!r}")
        return [replace(_as_found(document), score=value) for (document, _), value in zip(found, values, strict=True)]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = 3) -> list[list[Passage]]:
        """Returns what `search` returns, for each query."""
        return [self.search(query, top) for query in check_queries(queries)]

    def held(self, keys: list[str], on_conflict: OnConflict) -> dict[str, str]:
        """Returns the content hashes of those keys that are in.

        Args:
            keys: each once.
            on_conflict: as in `content_of`.
        """
        ours = (document for document in self.store.get_by_ids(keys) if CONTENT in document.metadata)
        return {
            marked_key(found.metadata): stored_content(found.metadata[CONTENT], _as_found(found), on_conflict)
            for found in ours
        }

    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields nothing: the store embeds what it writes."""
        return iter(())

    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what is there.

        Args:
            passages: with ids.
            vectors: one for each passage, [passages, d].
        """
        if held := list(self.contents(list(passages))):  # Chroma would keep metadata that the new ones lack
            with suppress(NotImplementedError):  # a store that cannot delete
                self.store.delete(held)
        self.store.add_documents([_as_stored(p) for p in passages.values()], ids=list(passages))


def _as_stored(passage: Passage) -> Document:
    # The title is part of the text, because that is what the store embeds.
    marks = stored_marks(passage) | {_TITLE: passage.title}
    plain = replace(passage, metadata=storable_metadata(passage.metadata))
    return Document(passage.titled(), metadata=as_document(plain).metadata | marks)


def _as_found(document: Document) -> Passage:
    rest = {name: value for name, value in document.metadata.items() if name not in _NOT_THEIRS}
    if _TITLE not in document.metadata:  # not written by `write`
        found = as_passage(Document(document.page_content, id=document.id, metadata=rest))
        return found if found.id else replace(found, id=key_of(found))
    title, own_id = document.metadata[_TITLE], document.metadata[ID]
    text = document.page_content.removeprefix(f"{title}\n") if title else document.page_content
    if title:
        del rest[TITLE]
    return Passage(text, title, own_id or marked_key(document.metadata), metadata=rest)
