"""Virtual tokens of encoder-decoders: in the encoder's input, between passages and question.

An encoder reads both ways, so what it makes of the passages depends on the virtual tokens behind them. No context
can be kept as that of a decoder is: back-propagation goes through the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spring_integrations.decoding.seq2seq import seq2seq_rows
from spring_integrations.errors import PromptTooLongError
from spring_integrations.runtime.backbone import Seq2SeqBackbone
from spring_integrations.runtime.batching import input_device, pad
from spring_integrations.runtime.fitting import fit
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.objective import IGNORED, EncodedExample, mean_loss, token_log_probs, warn_of_dropped
from spring_integrations.training.sampling import Asked, Drawn
from spring_integrations.training.spring import Spring


@dataclass(frozen=True)
class EncoderExample(EncodedExample):
    """Ids of one training example: `before` and `question` are the encoder's, `after` is what the decoder is to write.

    Attributes:
        question: what comes after the virtual tokens.
    """

    question: list[int]

    @property
    def prompt_length(self) -> int:
        """Positions of the encoder's input, virtual tokens aside."""
        return len(self.before) + len(self.question)


class Seq2SeqSpring(Spring):
    """SPRING on a frozen encoder-decoder."""

    def __init__(self, backbone: Seq2SeqBackbone, config: TrainConfig) -> None:
        super().__init__(backbone, config)
        self._seq2seq = backbone

    def encode(self, drawn: Drawn) -> EncoderExample:
        """Encodes an example.

        Raises:
            PromptTooLongError: if question and passage do not fit the encoder, or the answer the decoder.
        """
        backbone, virtual = self._seq2seq, self._ids[: max(drawn.ks)]
        target = encode_answer(backbone, drawn.target)
        fitted = fit(backbone, drawn.prompt, virtual, room=0)
        if fitted is None:
            length = len(backbone.encode(drawn.prompt.with_passages(1), virtual))
            msg = (
                f"virtual tokens, passage and question take {length} of the encoder's {backbone.window} positions: "
                f"{drawn.question[:80]!r}…; shorten them"
            )
            raise PromptTooLongError(msg)
        if fitted.dropped:
            warn_of_dropped(backbone)
        at = fitted.ids.index(virtual[0]) if fitted.prompt.boundary is not None else len(fitted.ids)
        return EncoderExample(fitted.ids[:at], target, len(target), fitted.ids[at + len(virtual) :])

    def loss(self, examples: Sequence[Any], ks: Sequence[int], num_items: Tensor | int) -> Tensor:
        """Returns the negative log-likelihood of the answers, the mean over the k, divided by num_items."""
        return mean_loss(self.log_probs(examples, ks), num_items)

    def log_probs(self, examples: Sequence[Any], ks: Sequence[int]) -> list[Tensor]:
        """Returns the log-likelihood of every answer token [examples, longest answer] for each k."""
        answers = [e.after for e in examples]
        rows = [[e.before + list(self._ids[:k]) + e.question for e in examples] for k in ks]
        return [answer_log_probs(self._seq2seq, of_k, answers) for of_k in rows]

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers greedily with all n tokens."""
        return self._answers(asked, max_new_tokens, self._ids)

    def plain_answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answers greedily without virtual tokens."""
        return self._answers(asked, max_new_tokens, range(0))

    def _answers(self, asked: Sequence[Asked], max_new_tokens: int, virtual: range) -> list[str]:
        backbone = self._seq2seq
        fitted = [fit(backbone, a.prompt, virtual, room=0) for a in asked]
        ids = [backbone.encode(a.prompt, virtual) if f is None else f.ids for a, f in zip(asked, fitted, strict=True)]
        written = _greedy(backbone, ids, max_new_tokens)
        return [str(backbone.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in written]


def encode_answer(backbone: Seq2SeqBackbone, answer: str) -> list[int]:
    """Returns what the decoder is to write: an answer, without what it starts with, and its end.

    Raises:
        PromptTooLongError: if it does not fit the decoder.
    """
    start, ends = backbone.decoder_start, backbone.eos_ids
    ids = list(backbone.tokenizer(text_target=answer).input_ids)
    forced = start[1:]
    target = ids[len(forced) :] if ids[: len(forced)] == forced else ids
    target += ends[:1] if not target or target[-1] not in ends else []
    if len(start) + len(target) > backbone.window:
        msg = (
            f"an answer takes {len(target)} of the decoder's {backbone.window} positions: {answer[:80]!r}…; shorten it"
        )
        raise PromptTooLongError(msg)
    return target


def answer_log_probs(backbone: Seq2SeqBackbone, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Tensor:
    """Returns log p of every answer token [rows, longest answer] in float32, 0 behind a shorter answer.

    Args:
        backbone: with what is trained.
        prompts: ids of the encoder's input of each row.
        answers: what the decoder is to write (see `encode_answer`).
    """
    # Encoders with learned positions count from the left, padding included.
    device = input_device(backbone)
    ids, mask = pad(prompts, backbone.pad_id, side="right", device=device)
    targets, _ = pad(answers, IGNORED, side="right", device=device)
    # The padding of a shorter answer comes after it, where nothing that counts attends to it.
    given, _ = pad([backbone.decoder_start + a[:-1] for a in answers], backbone.pad_id, side="right", device=device)
    model: Any = backbone.model
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=given, use_cache=False).logits
    return token_log_probs(logits[:, -targets.shape[1] :], targets)


def _greedy(backbone: Seq2SeqBackbone, prompts: Sequence[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Returns the most likely continuation, token by token, up to an end."""
    rows = seq2seq_rows(backbone, prompts)
    written: list[list[int]] = [[] for _ in prompts]
    unfinished = {*range(len(prompts))}
    for _ in range(max_new_tokens):
        chosen = rows.log_probs.argmax(-1).tolist()
        unfinished -= {i for i in unfinished if chosen[i] in backbone.eos_ids}
        for i in unfinished:
            written[i].append(chosen[i])
        if not unfinished:
            break
        rows = rows.advance(range(len(prompts)), chosen)
    return written
