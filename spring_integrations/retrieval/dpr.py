"""DPR (Karpukhin et al. 2020): one encoder for questions, another for passages, compared by inner product."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from spring_integrations._choices import check_size
from spring_integrations._optional import require
from spring_integrations.errors import BackboneError
from spring_integrations.retrieval.recipes import DEFAULT_BATCH, DPR, Similarity
from spring_integrations.retrieval.reloadable import Reloadable
from spring_integrations.retrieval.window import tokens_in
from spring_integrations.text import storable

QUESTION_MODEL = "facebook/dpr-question_encoder-single-nq-base"
PASSAGE_MODEL = "facebook/dpr-ctx_encoder-single-nq-base"
MAX_TOKENS = 256  # what the passage encoder was trained with


class DPREmbedder(Reloadable):
    """The two encoders of DPR. Safe to call from several threads.

    A passage is given as title, `recipe.title_separator` and text, which makes the ids that the two
    segments make.
    """

    recipe = DPR

    def __init__(
        self,
        question_model: str = QUESTION_MODEL,
        passage_model: str = PASSAGE_MODEL,
        *,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = DEFAULT_BATCH,
    ) -> None:
        """Loads both encoders.

        Args:
            question_model: hub id or local folder of a DPRQuestionEncoder of transformers.
            passage_model: the same of a DPRContextEncoder.
            device: where they run; None takes a GPU if there is one.
            dtype: type to load them in, such as "bfloat16".
            batch_size: texts embedded at a time.

        Raises:
            BackboneError: if one cannot be loaded, or is an encoder of the other kind.
            MissingExtraError: if sentence-transformers, which brings what is needed, is not installed.
        """
        self.name = f"{question_model} + {passage_model}"
        self._device = device or require("sentence_transformers.util", extra="retrieval").get_device_name()
        self._question = _load("DPRQuestionEncoder", question_model, self._device, dtype)
        self._passage = _load("DPRContextEncoder", passage_model, self._device, dtype)
        self.batch_size = check_size("batch_size", batch_size)
        self._lock = threading.Lock()  # fast tokenizers keep per-call state

    @property
    def question_encoder(self) -> tuple[Any, Any]:
        """The loaded question encoder and its tokenizer."""
        return self._question

    @property
    def passage_tokenizer(self) -> Any:
        """The tokenizer of passages."""
        return self._passage[1]

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        config = self._passage[0].config
        return int(config.projection_dim or config.hidden_size)

    @property
    def similarity(self) -> Similarity:
        """How vectors are to be compared: by inner product."""
        return self.recipe.similarity

    @property
    def max_tokens(self) -> int:
        """The most tokens of a passage that the encoder reads, special tokens included."""
        return min(MAX_TOKENS, int(self._passage[0].config.max_position_embeddings))

    def count_tokens(self, text: str) -> int:
        """Returns how many tokens the passage encoder makes of a text, if it reads all of it."""
        with self._lock:
            return tokens_in(self._passage[1], storable(text))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns a vector for each passage, of the passage encoder."""
        return self._encode(self._passage, texts)

    def embed_queries(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns a vector for each question, of the question encoder."""
        return self._encode(self._question, texts)

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a question."""
        return self.embed_queries([text])[0]

    def _encode(self, encoder: tuple[Any, Any], texts: Sequence[str]) -> list[list[float]]:
        import torch

        model, tokenizer = encoder
        longest = min(MAX_TOKENS, model.config.max_position_embeddings)
        vectors: list[list[float]] = [[]] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            given = [storable(texts[i]) for i in part]
            with self._lock, torch.inference_mode():
                inputs = tokenizer(given, padding=True, truncation=True, max_length=longest, return_tensors="pt")
                found = model(**inputs.to(self._device)).pooler_output.float().tolist()
            for i, vector in zip(part, found, strict=True):
                vectors[i] = vector
        return vectors


def _load(kind: str, model_id: str, device: str, dtype: str) -> tuple[Any, Any]:
    """Returns the model and its tokenizer."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(model_id)
        # transformers loads either encoder as the other one, with random weights and a warning.
        if config.architectures != [kind]:
            msg = f"{model_id!r} holds {config.architectures or config.model_type}, not a {kind}"
            raise BackboneError(msg)
        model = getattr(transformers, kind).from_pretrained(model_id, config=config, dtype=dtype)
        return model.eval().to(device), transformers.AutoTokenizer.from_pretrained(model_id)
    except (OSError, ValueError) as error:
        if isinstance(error, BackboneError):
            raise
        first = str(error).strip().splitlines()[0]
        msg = f"cannot load the DPR encoder {model_id!r}: {first}"
        raise BackboneError(msg) from error
