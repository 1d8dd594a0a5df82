"""Any LlamaIndex vector store in the place of Chroma: bulk ingest that can be stopped, and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery

from spring_integrations._renamed import renamed_keyword
from spring_integrations.errors import SettingsError
from spring_integrations.llama_index.passages import as_node, as_passage
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import check_top
from spring_integrations.retrieval.embedders import Embedder, embed_passages, passage_lengths, query_vectors
from spring_integrations.retrieval.ingest import (
    CONTENT,
    ID,
    OnConflict,
    Vectors,
    WrappedStore,
    stored_content,
    stored_marks,
)
from spring_integrations.retrieval.metadata import storable_metadata


class PassageVectorStore(WrappedStore):
    """A vector store as an index of passages: for a corpus that outgrows one machine.

    Ids are UUIDs made of the passages' own ids or contents, so adding twice adds nothing.
    """

    def __init__(self, store: BasePydanticVectorStore, embedder: Embedder, *, batch_size: int = 512) -> None:
        """Wraps a vector store.

        Args:
            store: any one; where it has no `get_nodes`, it cannot be seen what is in, and every passage is
                embedded and written again.
            embedder: one of this package, or LangChain `Embeddings`.
            batch_size: passages a write.

        Raises:
            SettingsError: if the store keeps no texts.
        """
        if not store.stores_text:
            msg = f"{type(store).__name__} keeps vectors without their texts; choose a store that keeps both"
            raise SettingsError(msg)
        super().__init__(store, batch_size)
        self.embedder = embedder

    @renamed_keyword(k="top")
    def search(self, query: str, top: int = 3) -> list[Passage]:
        """Returns the `top` nearest passages with the store's similarities, best first.

        Raises:
            SettingsError: if `top` is below 1.
        """
        return self.search_many([query], top)[0]

    @renamed_keyword(k="top")
    def search_many(self, queries: Sequence[str], top: int = 3) -> list[list[Passage]]:
        """Returns what `search` returns, for each query; the queries are embedded together."""
        top = check_top(top)
        vectors = query_vectors(self.embedder, queries)
        found = [self.store.query(VectorStoreQuery(query_embedding=v, similarity_top_k=top)) for v in vectors]
        return [[_as_found(n, s) for n, s in zip(f.nodes or [], f.similarities or [], strict=True)] for f in found]

    def held(self, keys: list[str], on_conflict: OnConflict) -> dict[str, str]:
        """Returns the content hashes of those keys that are in.

        Args:
            keys: each once.
            on_conflict: as in `content_of`.
        """
        return {
            node.node_id: stored_content(node.metadata.get(CONTENT, ""), _as_found(node, None), on_conflict)
            for node in self.store.get_nodes(node_ids=keys)
        }

    def lengths(self, passages: list[Passage]) -> list[int]:
        """Returns how long each passage is for the embedder."""
        return passage_lengths(self.embedder, passages)

    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields vectors of the passages' titles and texts, a batch of the embedder at a time."""
        return embed_passages(self.embedder, passages)

    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what is there.

        Args:
            passages: with ids.
            vectors: one for each passage, [passages, d].
        """
        nodes: list[BaseNode] = []
        for (key, passage), vector in zip(passages.items(), vectors, strict=True):
            marks = stored_marks(passage)
            node = as_node(replace(passage, id=key, metadata=storable_metadata(passage.metadata) | marks))
            node.embedding = vector
            nodes.append(node)
        if held := list(self.contents(list(passages))):  # the `add` of some stores passes over an id that is in
            self.store.delete_nodes(held)
        self.store.add(nodes)


def _as_found(node: BaseNode, score: float | None) -> Passage:
    found = as_passage(node, score)
    rest = {name: value for name, value in found.metadata.items() if name not in (ID, CONTENT)}
    return replace(found, id=node.metadata.get(ID) or found.id, metadata=rest)
