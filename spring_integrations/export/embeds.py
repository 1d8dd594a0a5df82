"""Prompts as vectors, for a server of the plain backbone that takes prompt embeddings, such as vLLM.

Such a server needs no merged checkpoint: a prompt with virtual tokens is sent as the vectors that the backbone
would look up, with the tokens' own at the boundary. It can answer for any tokens, any k, and plain requests.
"""

from __future__ import annotations

import base64
import io
import os
import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spring_integrations.errors import TokensError
from spring_integrations.export.checkpoint import Checkpoint
from spring_integrations.export.words import load_words, with_references
from spring_integrations.runtime.same_backbone import OnOtherBackbone
from spring_integrations.tokens import SpringTokens


@dataclass(frozen=True)
class PromptEmbeds:
    """Turns the text that a server of an exported model would get into vectors.

    Of the checkpoint only the tokenizer and the embedding are read. Safe to call from several threads.

    Attributes:
        table: the backbone's embedding, [V, d].
        tokens: the virtual tokens, [n, d] in the same dtype.
        words: the tokenizer, which reads `[refi]` as id V + i - 1.
        scale: what the backbone multiplies looked-up vectors by (Gemma: the square root of d).
        digest: of the tokens, for cache keys.
    """

    table: Tensor
    tokens: Tensor
    words: PreTrainedTokenizerBase
    scale: float = 1.0
    digest: str = ""
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def load(
        cls,
        model_id: str | os.PathLike[str],
        tokens: SpringTokens,
        *,
        revision: str | None = None,
        on_other_backbone: OnOtherBackbone = "warn",
    ) -> PromptEmbeds:
        """Reads what is needed of a local folder, a hub id, or "demo".

        Args:
            model_id: what the server serves.
            tokens: virtual tokens of that backbone.
            revision: of a hub model.
            on_other_backbone: what to do when the tokens were trained for another backbone.

        Raises:
            BackboneError: if it is none, or its embedding is quantised.
            TokensError: if the tokens do not fit it.
            SettingsError: for another value of `on_other_backbone`.
        """
        checkpoint = Checkpoint.open(model_id, revision=revision)
        checkpoint.check_tokens(tokens, on_other_backbone)
        words = load_words(checkpoint.folder, checkpoint.name)
        grown = with_references(words, len(tokens), checkpoint.rows, checkpoint.name)
        table = checkpoint.tensor(checkpoint.embedding)
        return cls(table, tokens.embeddings.to(table.dtype), grown, checkpoint.scale, tokens.digest)

    def vectors(self, text: str, *, special: bool = True) -> Tensor:
        """Returns the vectors [length, d] of a prompt with `[ref1]…[refk]` at its boundary.

        Args:
            text: the prompt.
            special: whether this is a whole text, with what the tokenizer puts around one (BOS); a part of a chat
                is not, and gets no space before its first word either.

        Raises:
            TokensError: if it holds more virtual tokens than there are.
        """
        if f"[ref{len(self.tokens) + 1}]" in text:
            msg = f"the prompt asks for more than the {len(self.tokens)} virtual tokens of these embeddings; lower k"
            raise TokensError(msg)
        with self._lock:
            ids = torch.tensor(self._whole(text) if special else self._inner(text))
        virtual = ids >= len(self.table)
        rows = self.table[ids.masked_fill(virtual, 0)]
        rows[virtual] = self.tokens[ids[virtual] - len(self.table)]
        return rows * self.scale if self.scale != 1 else rows

    def _whole(self, text: str, *, special: bool = True) -> list[int]:
        return list(self.words(text, add_special_tokens=special, verbose=False).input_ids)

    def _inner(self, text: str) -> list[int]:
        """Returns the ids of a text behind other text: those of SentencePiece begin a text with a space."""
        if not self.words.is_fast:
            return self._whole(text, special=False)
        after = self.words("\n" + text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = after.offset_mapping
        if any(start < 1 < end for start, end in places):  # a token of the line break and what follows
            return self._whole(text, special=False)
        return [i for i, (_, end) in zip(after.input_ids, places, strict=True) if end > 1]

    def __call__(self, text: str) -> str:
        """Returns the same in base64, as vLLM's field `prompt_embeds` takes it."""
        return _encoded(self.vectors(text))

    def part(self, text: str) -> str:
        """Returns the content of a chat's turn in base64, as vLLM's content part of type `prompt_embeds` takes it."""
        return _encoded(self.vectors(text, special=False))


def _encoded(vectors: Tensor) -> str:
    file = io.BytesIO()
    torch.save(vectors, file)
    return base64.b64encode(file.getvalue()).decode()
