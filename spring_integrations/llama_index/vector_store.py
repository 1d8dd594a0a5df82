"""Any LlamaIndex vector store in the place of Chroma: bulk ingest that can be stopped, and scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery

from spring_integrations.errors import SettingsError
from spring_integrations.llama_index.passages import as_node, as_passage
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import check_top
from spring_integrations.retrieval.embedders import Embedder, embed_passages, query_vectors
from spring_integrations.retrieval.ingest import OnConflict, Vectors, add_passages, content_of

log = logging.getLogger(__name__)

_ID, _CONTENT = "passage_id", "content_hash"


class PassageVectorStore:
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
        self.store = store
        self.embedder = embedder
        self._batch_size = batch_size
        self._tells = True

    def add(
        self,
        passages: Iterable[Passage],
        *,
        on_conflict: OnConflict = "error",
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Adds the passages that are not yet in (see `PassageStore.add`); returns how many there were.

        Raises:
            DataError: for an id that stands there with other content.
        """
        return add_passages(self, passages, on_conflict=on_conflict, progress=progress)

    def search(self, query: str, k: int = 3) -> list[Passage]:
        """Returns the k nearest passages with the store's similarities, best first.

        Raises:
            SettingsError: if k is below 1.
        """
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int = 3) -> list[list[Passage]]:
        """Returns what `search` returns, for each query; the queries are embedded together."""
        check_top(k)
        vectors = query_vectors(self.embedder, queries)
        found = [self.store.query(VectorStoreQuery(query_embedding=v, similarity_top_k=k)) for v in vectors]
        return [[_as_found(n, s) for n, s in zip(f.nodes or [], f.similarities or [], strict=True)] for f in found]

    def batch_limit(self) -> int:
        """Returns the most passages that one write has."""
        return self._batch_size

    def contents(self, keys: list[str]) -> dict[str, str]:
        """Returns the content hashes of those keys that are in, as far as the store can tell."""
        try:
            found = self.store.get_nodes(node_ids=list(dict.fromkeys(keys)))
        except NotImplementedError:
            if self._tells:
                log.warning("%s cannot say what it holds: all passages are written again", type(self.store).__name__)
            self._tells = False
            return {}
        return {node.node_id: node.metadata.get(_CONTENT, "") for node in found}

    def embed(self, passages: list[Passage]) -> Iterator[Vectors]:
        """Yields vectors of the passages' titles and texts, a batch of the embedder at a time."""
        return embed_passages(self.embedder, passages)

    def write(self, passages: dict[str, Passage], vectors: Vectors) -> None:
        """Writes passages by key, in place of what stands there."""
        nodes: list[BaseNode] = []
        for (key, passage), vector in zip(passages.items(), vectors, strict=True):
            marks = {_ID: passage.id, _CONTENT: content_of(passage)}
            node = as_node(replace(passage, id=key, metadata={**passage.metadata, **marks}))
            node.embedding = vector
            nodes.append(node)
        if held := list(self.contents(list(passages))):  # the `add` of some stores passes over an id that is in
            self.store.delete_nodes(held)
        self.store.add(nodes)


def _as_found(node: BaseNode, score: float) -> Passage:
    found = as_passage(node, score)
    rest = {name: value for name, value in found.metadata.items() if name not in (_ID, _CONTENT)}
    return replace(found, id=node.metadata.get(_ID) or found.id, metadata=rest)
