"""Fixtures that several test files share: a tiny Llama, its checkpoint folder, and virtual tokens for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from spring_integrations import SpringModel, SpringTokens

N_TOKENS = 8


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_chroma() -> Iterator[None]:
    """Chroma keeps one in-memory system a process and refuses a second with other settings."""
    yield
    if client := sys.modules.get("chromadb.api.shared_system_client"):
        client.SharedSystemClient.clear_system_cache()


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def llama() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A fresh tiny random Llama with a byte-level BPE tokenizer that has a chat template."""
    return tiny_models.build("llama")


@pytest.fixture(scope="session")
def random_tokens() -> SpringTokens:
    """Eight random virtual tokens of the tiny models' width; immutable, so one for the session."""
    table = torch.randn(N_TOKENS, tiny_models.WIDTH, generator=torch.Generator().manual_seed(1))
    return SpringTokens(table)


@pytest.fixture(scope="session")
def tokens_file(random_tokens: SpringTokens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random tokens as a saved file."""
    return random_tokens.save(tmp_path_factory.mktemp("tokens") / "spring_tokens.safetensors")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the tiny Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    model, tokenizer = tiny_models.build("llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def spring_llama(llama: tuple[PreTrainedModel, PreTrainedTokenizerFast], random_tokens: SpringTokens) -> SpringModel:
    """A SpringModel on a fresh tiny Llama with the eight random tokens."""
    return SpringModel(*llama, random_tokens)


@pytest.fixture(scope="session")
def demo_model() -> SpringModel:
    """The real model "demo" with its tokens, where a test needs a model that reads; loaded once a session."""
    return SpringModel.from_pretrained("demo", on_other_backbone="error")
