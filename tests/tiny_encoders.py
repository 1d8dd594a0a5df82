"""Tiny random BERTs in folders, with and without sentence-transformers' files, and what they make of texts."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

WIDTH = 32
POSITIONS = 128


def words() -> transformers.PreTrainedTokenizerBase:
    """A BERT tokenizer whose words are single characters."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.printable.strip()]
    pieces += [f"##{c}" for c in string.ascii_lowercase + string.digits]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return transformers.BertTokenizerFast(vocab=vocabulary, model_max_length=POSITIONS)


def save_bert(folder: Path, kind: str = "Bert", model: str = "BertModel", *, seed: int = 0, **settings: Any) -> Path:
    """Saves a tiny random model of the BERT family with its tokenizer; returns the folder."""
    tokenizer = words()
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=POSITIONS,
        initializer_range=0.4,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        getattr(transformers, model)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_sentence_bert(folder: Path, *, pooling: str = "mean", **settings: Any) -> Path:
    """Saves a tiny BERT with sentence-transformers' own files, its pooling, prompts and similarity among them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    body = Transformer(str(save_bert(folder)))
    model = SentenceTransformer(modules=[body, Pooling(WIDTH, pooling)], device="cpu", **settings)
    model.save(str(folder))
    return folder


def raw_vectors(folder: Path, texts: Sequence[str], pooling: str, *, unit: bool) -> np.ndarray:
    """What transformers alone makes of texts, one at a time; float32 [texts, width]."""
    model, tokenizer = transformers.AutoModel.from_pretrained(folder), words()
    vectors = []
    for text in texts:
        with torch.inference_mode():
            states = model(**tokenizer(text, truncation=True, return_tensors="pt")).last_hidden_state[0]
        vector = states[0] if pooling == "cls" else states.mean(0)
        vectors.append((vector / vector.norm() if unit else vector).numpy())
    return np.array(vectors)
