"""LangChain's standard tests (package langchain-tests) on our classes, with real models."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_parts import QUESTION, TEXTS, chroma
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from taught_chat import taught_model

from spring_integrations import GenerationSettings, Passage, SpringModel
from spring_integrations.langchain import ChatSpringHF, MiniLMEmbeddings, PassageRetriever, SpringRetriever
from spring_integrations.retrieval import BM25Index

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio' but it is not an async"),
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
]


@pytest.fixture(scope="module")
def taught() -> SpringModel:
    return taught_model().with_changes(settings=GenerationSettings(max_new_tokens=100))


class _Chat:
    """What both suites of chat models are told."""

    @pytest.fixture(autouse=True)
    def _model(self, taught: SpringModel) -> None:
        self._taught = taught

    @property
    def chat_model_class(self) -> type[ChatSpringHF]:
        return ChatSpringHF

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": self._taught}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # A local model has no server, hence no api_key, timeout and max_retries; it refuses them.
        return {"temperature": 0, "stop": []}

    @property
    def supports_model_override(self) -> bool:
        return False  # the backbone is loaded; another one is another ChatSpringHF


class TestChatUnit(_Chat, ChatModelUnitTests):
    """The unit suite; `test_serdes` is skipped, since weights cannot be serialised."""


class TestChatIntegration(_Chat, ChatModelIntegrationTests):
    """The integration suite; images, PDFs and sound are skipped: the backbone reads text only."""

    @property
    def supports_json_mode(self) -> bool:
        return False  # the taught model answers calls only; test_langchain_chat has JSON without tools


class TestRetriever(RetrieversIntegrationTests):
    """The retriever suite on a Chroma retriever; `k` goes to the wrapped one."""

    @property
    def retriever_constructor(self) -> Any:
        # How many documents there are is the wrapped retriever's business.
        return lambda k=3: SpringRetriever(retriever=chroma(k))

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


class TestPassageRetriever(RetrieversIntegrationTests):
    """The retriever suite on an index of this package."""

    @property
    def retriever_constructor(self) -> type[PassageRetriever]:
        return PassageRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": BM25Index.build(Passage(text) for text in TEXTS)}

    @property
    def retriever_query_example(self) -> str:
        return f"{QUESTION} Lima?"  # BM25 returns passages that share a word only, and the suite wants three


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    """The unit suite of embeddings."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MiniLMEmbeddings


class TestEmbeddingsIntegration(EmbeddingsIntegrationTests):
    """The integration suite of embeddings."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MiniLMEmbeddings
