"""Query encoders: questions to vectors, with gradient."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spring_integrations.errors import SettingsError
from spring_integrations.retrieval import DPREmbedder, SentenceEmbedder

MAX_TOKENS = 256
_CHUNK = 1 << 20


class QueryEncoder(Protocol):
    """What joint training moves; `query_encoder` makes one of a model."""

    def __call__(self, questions: Sequence[str]) -> Tensor:
        """Returns the vectors [questions, d] that an index is searched with, with gradient."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Returns what can be trained."""
        ...

    def to(self, device: torch.device) -> Any:
        """Moves the encoder."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the encoder so that the library it comes from loads it."""
        ...


def query_encoder(model: Any, tokenizer: Any = None, *, prompt: str | None = None) -> QueryEncoder:
    """Makes a query encoder of a model.

    It computes without dropout, so that training sees the vectors that inference sees.

    Args:
        model: a `SentenceEmbedder` or `DPREmbedder`, of which a copy is trained; a `SentenceTransformer`;
            with its tokenizer, a `DPRQuestionEncoder`, or another model of transformers whose
            `pooler_output` is the vector; or a `QueryEncoder`.
        tokenizer: of a model of transformers.
        prompt: goes before every question ("query: " for E5) and is saved with a
            `SentenceTransformer`; None takes the embedder's or the one that was saved, if there is one.

    Raises:
        SettingsError: if the model is none of these.
    """
    if isinstance(model, SentenceEmbedder):  # its own model goes on embedding passages
        own = model.recipe.query_prompt
        return query_encoder(copy.deepcopy(model.model), prompt=own if prompt is None else prompt)
    if isinstance(model, DPREmbedder):
        return query_encoder(*copy.deepcopy(model.question_encoder), prompt=prompt)
    if hasattr(model, "encode_query"):
        return _Sentence(model, prompt)
    if tokenizer is not None and hasattr(model, "save_pretrained"):
        return _Pooled(model, tokenizer, prompt or "")
    if all(callable(getattr(model, name, None)) for name in ("__call__", "parameters", "to", "save")):
        encoder: QueryEncoder = model
        return encoder
    msg = (
        f"{type(model).__name__} is not a query encoder: give a SentenceTransformer, a transformers model with its "
        "tokenizer, or an object with parameters(), to(device), save(folder) that maps texts to vectors"
    )
    raise SettingsError(msg)


class _Wrapped:
    """A model as a query encoder."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def parameters(self) -> Iterator[nn.Parameter]:
        found: Iterator[nn.Parameter] = self.model.parameters()
        return found

    def to(self, device: torch.device) -> None:
        self.model.to(device)


class _Sentence(_Wrapped):
    """A model of sentence-transformers."""

    def __init__(self, model: Any, prompt: str | None) -> None:
        super().__init__(model)
        if prompt is not None:
            model.prompts = {**model.prompts, "query": prompt}

    def __call__(self, questions: Sequence[str]) -> Tensor:
        inputs = self.model.preprocess(list(questions), prompt=self.model.prompts.get("query"), task="query")
        moved = {name: v.to(self.model.device) if isinstance(v, Tensor) else v for name, v in inputs.items()}
        vectors: Tensor = self.model(moved, task="query")["sentence_embedding"]
        return vectors

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder), create_model_card=False)


class _Pooled(_Wrapped):
    """A model of transformers that pools by itself, such as DPR's."""

    def __init__(self, model: Any, tokenizer: Any, prompt: str) -> None:
        super().__init__(model)
        self._tokenizer = tokenizer
        self._prompt = prompt

    def __call__(self, questions: Sequence[str]) -> Tensor:
        texts = [self._prompt + question for question in questions]
        longest = min(MAX_TOKENS, self.model.config.max_position_embeddings)
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        vectors: Tensor = self.model(**inputs.to(self.model.device)).pooler_output
        return vectors

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def trainable(encoder: QueryEncoder) -> list[nn.Parameter]:
    """Returns the parameters that a query's vector depends on: a pooler that is not used is left out.

    Raises:
        SettingsError: if there are none, or they are in half precision, which small steps do not move.
    """
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    if parameters:
        with torch.enable_grad():
            total = encoder(["?"]).sum()
            grads = torch.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else ()
        parameters = [p for p, grad in zip(parameters, grads, strict=False) if grad is not None]
    if not parameters:
        msg = "the query encoder has no parameter with a gradient; set requires_grad, and return vectors with gradient"
        raise SettingsError(msg)
    if other := {str(p.dtype) for p in parameters if p.dtype != torch.float32}:
        msg = f"the query encoder is in {', '.join(sorted(other))}: load it in float32 (precision='bf16' mixes)"
        raise SettingsError(msg)
    return parameters


def digest(encoder: QueryEncoder) -> str:
    """Returns a hash of an encoder's parameters."""
    found = hashlib.sha256()
    for parameter in encoder.parameters():
        flat = parameter.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
        for start in range(0, len(flat), _CHUNK):
            found.update(flat[start : start + _CHUNK].numpy().tobytes())
    return found.hexdigest()[:32]
