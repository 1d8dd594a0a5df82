"""`RagDecoder`: answers marginalised over passages, from a model and a method."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor

from spring_integrations._choices import check_choice, is_number
from spring_integrations._once import Once
from spring_integrations.decoding import rag_sequence, rag_token
from spring_integrations.decoding.answer import Asked, RagAnswer, answer_of_sequence, answer_of_tokens
from spring_integrations.decoding.beams import BeamSettings
from spring_integrations.decoding.causal import causal_rows
from spring_integrations.decoding.posterior import (
    ScoreTemperature,
    check_temperature,
    log_prior,
    passage_scores,
    rag_sequence_joint,
    rag_sequence_log_likelihood,
    rag_token_joint,
    rag_token_log_likelihood,
)
from spring_integrations.decoding.rows import Rows
from spring_integrations.decoding.seq2seq import seq2seq_rows
from spring_integrations.errors import ArgumentsError, PromptError, PromptTooLongError, SettingsError
from spring_integrations.passages import Passage
from spring_integrations.prompts import (
    OnMissingBoundary,
    RagPrompt,
    check_answers,
    check_passages,
    check_question,
    report_missing,
)
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.runtime.detokenize import Completion, Reader, Stream
from spring_integrations.runtime.fitting import fit
from spring_integrations.runtime.model import OnTooLong
from spring_integrations.runtime.room import AnswerRoom, check_answer_fits, check_beams_fit
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.tokens import SpringTokens, resolve_k

log = logging.getLogger(__name__)

Decoding = Literal["rag-token", "rag-sequence", "rag-sequence-fast"]
_MAX_LENGTH_PENALTY = 10
WritePrompt = Callable[[Passage, str], RagPrompt]


class RagModel(Protocol):
    """What `RagDecoder` needs: `SpringModel` and `Seq2SeqModel` have it."""

    tokens: SpringTokens | None
    k: int
    settings: GenerationSettings
    on_missing_boundary: OnMissingBoundary
    on_too_long: OnTooLong

    @property
    def frozen(self) -> Backbone:
        """The loaded backbone."""
        ...

    @property
    def window(self) -> int:
        """Positions of a prompt."""
        ...

    def prompt(self, passages: Sequence[Passage | str], question: str) -> RagPrompt:
        """Writes a prompt.

        Args:
            passages: best first.
            question: the question.
        """
        ...


class RagDecoder:
    """Answers marginalised over retrieved passages (Lewis et al. 2020, arXiv 2005.11401).

    Every passage gets a prompt of its own, with the model's virtual tokens between passage and
    question; the prompts run as one batch. RAG-Token may take each token from another passage;
    RAG-Sequence has one passage behind the whole answer. Safe to call from several threads.

    - "rag-token": greedy, sampling (`temperature`) or beams (`num_beams`) on the mixture. Streams
      unless it searches with beams.
    - "rag-sequence": beams under every passage, and every answer found scored under every passage
      ("thorough decoding"). Does not sample, and gives its text at the end.
    - "rag-sequence-fast": the same without that scoring; where a passage's beams do not hold an
      answer, it counts as impossible there.

    Compared with one prompt of all passages (`SpringModel.generate`): passages that do not fit one
    window together can be used, their order does not matter, and it is known which one an answer
    comes from. But no passage is read in the light of another, and K prompts cost more than one.
    Prefer RAG-Token for streaming, for provenance token by token, and where parts of an answer are in
    several passages; it weighs the passages by the retriever's scores at every token again, so it
    needs scores that tell. Prefer RAG-Sequence where one passage holds the answer, where the scores
    tell little, and where its probability is wanted.

    With a backbone in `folder`, and its tokens in `file`:

    >>> from spring_integrations import Passage, SpringModel
    >>> model = SpringModel.from_pretrained(folder, file)
    >>> passages = [Passage("Lima is the capital of Peru.", score=2.0), Passage("Oslo is in Norway.", score=1.0)]
    >>> answer = RagDecoder(model, "rag-token").answer("What is the capital of Peru?", passages, max_new_tokens=3)
    >>> answer.k, len(answer.posterior), round(sum(answer.posterior), 3)
    (8, 2, 1.0)
    """

    def __init__(
        self,
        model: RagModel,
        method: Decoding = "rag-token",
        *,
        score_temperature: ScoreTemperature = 1.0,
        length_penalty: float = 0.0,
        write_prompt: WritePrompt | None = None,
    ) -> None:
        """Puts a method on a model; any number can share it.

        Args:
            model: a `SpringModel` or a `Seq2SeqModel`.
            method: see above.
            score_temperature: of p(z|x), see `log_prior`; for cosine scores `COSINE_TEMPERATURE`, or "auto".
            length_penalty: beams rank answers by log-probability / length**length_penalty; 0, as in
                the paper, does not normalise.
            write_prompt: writes the prompt of a passage and a question; None is the model's own
                format. What the prompts have in common at their start runs once; if one has no
                boundary, all get no virtual tokens, and `on_missing_boundary` of the model says what then.

        Raises:
            SettingsError: for an unknown method, a temperature that is not above 0, or a length penalty that is no
                number from -10 to 10.
            ArgumentsError: if the model is none of the two.
        """
        if not hasattr(model, "frozen"):
            msg = f"RagDecoder takes a SpringModel or a Seq2SeqModel, got {type(model).__name__} {model!r}"
            raise ArgumentsError(msg)
        if not is_number(length_penalty, int | float) or not abs(length_penalty) <= _MAX_LENGTH_PENALTY:
            msg = f"length_penalty must be a number from -10 to 10, got length_penalty={length_penalty!r}"
            raise SettingsError(msg)
        self.model = model
        self.method: Decoding = check_choice("method", method, Decoding)
        self.score_temperature = check_temperature(score_temperature)
        self.length_penalty = length_penalty
        self._once = Once()
        self._write_prompt = write_prompt or (lambda passage, question: model.prompt([passage], question))

    def answer(self, question: str, passages: Sequence[Passage], *, k: int | None = None, **settings: Any) -> RagAnswer:
        """Answers a question from passages, whose order does not matter.

        Args:
            question: the question.
            passages: 1 to 50, with the retriever's scores, higher ones for better passages.
            k: virtual tokens to use; None means the model's k; 0 is the plain backbone.
            settings: fields of `GenerationSettings` that differ for this call.

        Raises:
            PromptError: for an empty question.
            PromptTooLongError: if no passage's prompt fits the window.
            DataError: if a passage has no finite score, or there are none or too many.
            TokenCountError: if k is outside 0…n.
            SettingsError: for a setting that is unknown, impossible, or not defined for the method.
            ArgumentsError: if passages or question are of the wrong kind, or swapped.
        """
        *_, answer = self.stream(question, passages, k=k, **settings)
        return cast(RagAnswer, answer)

    def stream(
        self, question: str, passages: Sequence[Passage], *, k: int | None = None, **settings: Any
    ) -> Generator[str | RagAnswer, None, None]:
        """Yields pieces of the answer as they are generated, and at last the `RagAnswer`.

        The pieces together are the answer's text. RAG-Sequence and beams know their text only at the
        end, and give one piece. Arguments and errors are those of `answer`.

        Args:
            question: the question.
            passages: with their scores.
            k: virtual tokens; None means those of the model.
            settings: fields of `GenerationSettings`.
        """
        wanted = self.model.settings.with_changes(settings)
        self._check(wanted)
        asked = self._ask(question, passages, k, AnswerRoom(wanted.max_new_tokens))
        return self._pieces(asked, wanted)

    def log_likelihood(
        self,
        question: str,
        passages: Sequence[Passage],
        answers: Sequence[str],
        *,
        k: int | None = None,
        add_eos: bool = False,
    ) -> list[float]:
        """Returns log p(answer | question), marginalised over the passages, in nats for each answer.

        Args:
            question: the question.
            passages: as in `answer`.
            answers: texts as they would be generated; give the leading space where the tokenizer
                makes one.
            k: virtual tokens to use; None means the model's k.
            add_eos: score the end of the answer too.

        Raises:
            ArgumentsError: if `answers` is a string, and as `answer` does.
            PromptError, PromptTooLongError, DataError, TokenCountError: as `answer` does.
        """
        backbone = self.model.frozen
        targets = [_target(backbone, answer, add_eos) for answer in check_answers(answers)]
        asked = self._ask(question, passages, k, AnswerRoom.of_given(targets))
        rows = _rows(backbone, asked)
        count = len(asked.passages)
        scored = [(z, ids) for ids in targets if ids for z in range(count)]
        tokens = iter(rows.score([z for z, _ in scored], [ids for _, ids in scored]))
        marginal = rag_token_log_likelihood if self.method == "rag-token" else rag_sequence_log_likelihood
        return [
            float(marginal(asked.prior, torch.stack([next(tokens) for _ in range(count)]))) if ids else 0.0
            for ids in targets
        ]

    def trace(self, question: str, passages: Sequence[Passage], answer: str, *, k: int | None = None) -> RagAnswer:
        """Returns an answer that is there already with its probability and the passages that it comes from.

        Args:
            question: the question.
            passages: as in `answer`.
            answer: a text as it would be generated, whatever generated it.
            k: virtual tokens to use; None means the model's k.

        Raises:
            PromptError: if the answer is empty, and as `answer` does.
            PromptTooLongError, DataError, TokenCountError, ArgumentsError: as `answer` does.
        """
        backbone = self.model.frozen
        (answer,) = check_answers([answer])
        ids = _target(backbone, answer, add_eos=False)
        if not ids:
            msg = f"the answer {answer!r} is empty, so that it comes from no passage"
            raise PromptError(msg)
        asked = self._ask(question, passages, k, AnswerRoom.of_given([ids]))
        count = len(asked.passages)
        scores = torch.stack(_rows(backbone, asked).score(range(count), [ids] * count))
        completion = Completion(answer, len(ids), "stop")
        if self.method == "rag-token":
            return answer_of_tokens(asked, ids, rag_token_joint(asked.prior, scores), completion)
        return answer_of_sequence(asked, ids, rag_sequence_joint(asked.prior, scores), completion)

    def _check(self, settings: GenerationSettings) -> None:
        if settings.repetition_penalty != 1:
            msg = (
                f"repetition_penalty={settings.repetition_penalty} is not defined for probabilities that are "
                "marginalised over passages; leave it at 1"
            )
            raise SettingsError(msg)
        if settings.temperature and self.method != "rag-token":
            msg = f"{self.method} does not sample (temperature={settings.temperature}); use rag-token or temperature=0"
            raise SettingsError(msg)

    def _ask(self, question: str, passages: Sequence[Passage], k: int | None, answer: AnswerRoom) -> Asked:
        check_passages(passages, question, "answer(question, passages)")
        check_question(question)
        scores = passage_scores(passages)
        model = self.model
        prompts = [self._write_prompt(passage, question).without_marks() for passage in passages]
        count = model.k if k is None else resolve_k(model.tokens, k)
        missing = [prompt for prompt in prompts if prompt.boundary is None]
        if count and missing:
            count = 0
            report_missing(missing[0], model.on_missing_boundary, self._once)
        virtual = model.frozen.virtual_ids(model.tokens, count)
        check_answer_fits(model.frozen, answer)
        # An encoder's window holds the prompt alone.
        room = 0 if isinstance(model.frozen, Seq2SeqBackbone) else answer.tokens
        encoded = {
            i: fitted.ids
            for i, prompt in enumerate(prompts)
            if (fitted := fit(model.frozen, prompt, virtual, room, "error"))
        }
        fitting = list(encoded)
        self._report_left_out(len(passages) - len(fitting), len(passages), model.window - room, answer)
        kept = torch.tensor([scores[i] for i in fitting], dtype=torch.float64)
        return Asked(
            passages=tuple(passages[i] for i in fitting),
            prompts=list(encoded.values()),
            prior=log_prior(kept, self.score_temperature),
            method=self.method,
            k=len(virtual),
            dropped=len(passages) - len(fitting),
        )

    def _report_left_out(self, left_out: int, count: int, limit: int, answer: AnswerRoom) -> None:
        if not left_out:
            return
        model = self.model
        msg = (
            f"{left_out} of {count} passages make a prompt longer than the {limit} tokens that {model.frozen.name} has "
            f"room for (window {model.window}, {answer})"
        )
        if left_out == count or model.on_too_long == "error":
            msg += f"; shorten the passages or the question, or {answer.advice}"
            raise PromptTooLongError(msg)
        log.warning("%s: left them out", msg)

    def _pieces(self, asked: Asked, settings: GenerationSettings) -> Generator[str | RagAnswer, None, None]:
        reader = Reader(self.model.frozen, settings.stop)
        if self.method == "rag-token" and settings.num_beams == 1:
            yield from _token_pieces(_rows(self.model.frozen, asked), asked, settings, reader)
            return
        answer = self._searched(asked, settings, reader)
        yield answer.text
        yield answer

    def _searched(self, asked: Asked, settings: GenerationSettings, reader: Reader) -> RagAnswer:
        lengths = [len(prompt) for prompt in asked.prompts]
        check_beams_fit(self.model.frozen, lengths, settings.num_beams, settings.max_new_tokens)
        rows = _rows(self.model.frozen, asked)
        beams = BeamSettings(
            settings.num_beams,
            settings.max_new_tokens,
            lambda ids: _ended(reader, ids),
            self.length_penalty,
            spare=max(2, 1 + len(reader.ends)),
        )
        if self.method == "rag-token":
            ids = rag_token.best_of_beams(rows, asked.prior, beams).ids
            scores = torch.stack(rows.score(range(len(asked.passages)), [ids] * len(asked.passages)))
            return answer_of_tokens(asked, ids, rag_token_joint(asked.prior, scores), reader.complete(list(ids)))
        weigh = rag_sequence.thorough if self.method == "rag-sequence" else rag_sequence.fast
        best = weigh(rows, asked.prior, beams)
        return answer_of_sequence(asked, best.ids, best.joint, reader.complete(list(best.ids)))


def _token_pieces(
    rows: Rows, asked: Asked, settings: GenerationSettings, reader: Reader
) -> Generator[str | RagAnswer, None, None]:
    answer = Stream(reader)
    columns: list[Tensor] = []
    for token, column in rag_token.token_by_token(rows, asked.prior, settings, lambda ids: _ended(reader, ids)):
        columns.append(column)
        if piece := answer.add(token):
            yield piece
    completion = reader.complete(answer.ids)
    if rest := answer.rest(completion):
        yield rest
    yield answer_of_tokens(asked, answer.ids, rag_token_joint(asked.prior, torch.stack(columns, dim=1)), completion)


def _rows(backbone: Backbone, asked: Asked) -> Rows:
    if isinstance(backbone, Seq2SeqBackbone):
        return seq2seq_rows(backbone, asked.prompts)
    return causal_rows(backbone, asked.prompts)


def _ended(reader: Reader, ids: Sequence[int]) -> bool:
    return ids[-1] in reader.ends or reader.stops(list(ids))


def _target(backbone: Backbone, answer: str, add_eos: bool) -> list[int]:
    """Returns an answer's ids as they would be generated."""
    ids = backbone.text_ids(answer)
    if isinstance(backbone, Seq2SeqBackbone):
        # BART's answers open with <s>, which some checkpoints generate and others are given.
        given = {*backbone.decoder_start[1:], *backbone.eos_ids}
        with backbone.text_lock:
            ids = [i for i in backbone.tokenizer("").input_ids if i not in given] + ids
    return ids + backbone.eos_ids[:1] if add_eos else ids
