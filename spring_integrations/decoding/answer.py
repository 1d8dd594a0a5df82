"""`RagAnswer`: an answer, how likely it is, and which passages it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from spring_integrations.passages import Passage
from spring_integrations.runtime.detokenize import Completion

Found = TypeVar("Found")


@dataclass(frozen=True)
class RagAnswer:
    """An answer marginalised over passages.

    Attributes:
        text: the answer, without stop strings.
        token_ids: its ids, the end token included where it has one.
        log_probability: log p(y|x) in nats, of all of `token_ids`; from fast decoding a lower bound.
        passages: the passages that it was marginalised over.
        prior: p(z|x) of each passage, from the retriever's scores.
        posterior: how much of the answer comes from each passage. RAG-Sequence: p(z|x,y).
            RAG-Token: the mean of `token_posterior`, the share of tokens expected from the passage.
        token_posterior: RAG-Token: for each token, p(z|x,y_1…i) of each passage. RAG-Sequence: None.
        method: how it was decoded.
        k: virtual tokens in each passage's prompt.
        prompt_tokens: positions of all prompts, virtual tokens included.
        completion_tokens: generated tokens.
        finish_reason: "stop" or "length".
        dropped_passages: passages left out because their prompts were too long.
    """

    text: str
    token_ids: tuple[int, ...]
    log_probability: float
    passages: tuple[Passage, ...]
    prior: tuple[float, ...]
    posterior: tuple[float, ...]
    token_posterior: tuple[tuple[float, ...], ...] | None
    method: str
    k: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    dropped_passages: int = 0

    def info(self) -> dict[str, Any]:
        """Returns everything but text and passages, for the frameworks' metadata fields."""
        return {name: value for name, value in vars(self).items() if name not in ("text", "passages")}

    def sources(self, found: Sequence[Found], passages: Sequence[Passage]) -> list[tuple[Found, float]]:
        """Returns what the answer was marginalised over, each with its posterior.

        Args:
            found: what a retriever found, as its framework has it.
            passages: the same, as the decoder was given it; what it left out is not returned.
        """
        weights = {id(passage): weight for passage, weight in zip(self.passages, self.posterior, strict=True)}
        pairs = zip(found, passages, strict=True)
        return [(one, weights[id(passage)]) for one, passage in pairs if id(passage) in weights]


@dataclass(frozen=True)
class Asked:
    """What an answer is decoded from.

    Attributes:
        passages: those whose prompts fit.
        prompts: the ids of each passage's prompt.
        prior: log p(z|x), [K] float64.
        method, k, dropped: see `RagAnswer`.
    """

    passages: tuple[Passage, ...]
    prompts: list[list[int]]
    prior: Tensor
    method: str
    k: int
    dropped: int


def answer_of_sequence(asked: Asked, ids: Sequence[int], joint: Tensor, completion: Completion) -> RagAnswer:
    """Returns RAG-Sequence's answer from log p(z|x) p(y|x,z), [K]."""
    return _answer(asked, ids, float(joint.logsumexp(0)), joint.softmax(0), None, completion)


def answer_of_tokens(asked: Asked, ids: Sequence[int], joint: Tensor, completion: Completion) -> RagAnswer:
    """Returns RAG-Token's answer from log p(z|x) p(y_i|x,z,y_<i), [K, L]."""
    posterior = joint.softmax(0)
    by_token = tuple(map(tuple, posterior.T.tolist()))
    return _answer(asked, ids, float(joint.logsumexp(0).sum()), posterior.mean(1), by_token, completion)


def _answer(
    asked: Asked,
    ids: Sequence[int],
    log_probability: float,
    posterior: Tensor,
    token_posterior: tuple[tuple[float, ...], ...] | None,
    completion: Completion,
) -> RagAnswer:
    return RagAnswer(
        text=completion.text,
        token_ids=tuple(ids),
        log_probability=log_probability,
        passages=asked.passages,
        prior=tuple(torch.exp(asked.prior).tolist()),
        posterior=tuple(posterior.tolist()),
        token_posterior=token_posterior,
        method=asked.method,
        k=asked.k,
        prompt_tokens=sum(map(len, asked.prompts)),
        completion_tokens=completion.tokens,
        finish_reason=completion.finish_reason,
        dropped_passages=asked.dropped,
    )
