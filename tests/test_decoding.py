"""RAG-Token and RAG-Sequence against the enumeration of all answers, and against their own definitions."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import decoding_kit as kit
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from spring_integrations import GenerationSettings, Passage, RagPrompt, SpringModel, SpringTokens
from spring_integrations.decoding import COSINE_TEMPERATURE, RagAnswer, RagDecoder, Seq2SeqModel, log_prior
from spring_integrations.decoding.beams import BeamSettings, beam_search
from spring_integrations.decoding.causal import causal_rows
from spring_integrations.errors import (
    ArgumentsError,
    BackboneError,
    BoundaryError,
    DataError,
    PromptError,
    PromptTooLongError,
    SettingsError,
)

METHODS = ("rag-token", "rag-sequence", "rag-sequence-fast")
EVERYTHING = 2 * len(kit.ANSWERS)  # so many beams miss nothing
PASSAGES = (
    Passage("Lima is the capital of Peru.", id="p0", score=0.9),
    Passage("The river Rímac flows through Lima to the sea, says the 東京 paper.", id="p1", score=0.2),
    Passage("Röntgen got the first Nobel Prize in Physics.", id="p2", score=1.1),
)
QUESTION = "what is the capital of Peru?"
every_method = pytest.mark.parametrize("method", METHODS)
every_count = pytest.mark.parametrize("count", [1, 2, 3])


@pytest.fixture(scope="module", params=itertools.product(("llama", "t5"), (0, 2)), ids=lambda p: f"{p[0]}, k={p[1]}")
def five(request: pytest.FixtureRequest) -> SpringModel | Seq2SeqModel:
    """A model over five words, a decoder or an encoder-decoder, without virtual tokens and with two."""
    kind, k = request.param
    table = torch.randn(2, kit.WIDTH, generator=torch.Generator().manual_seed(0))
    settings = GenerationSettings(max_new_tokens=kit.LENGTH)
    model, kind = (kit.five_word_llama(), SpringModel) if kind == "llama" else (kit.five_word_t5(), Seq2SeqModel)
    return kind(model, kit.five_words(), SpringTokens(table) if k else None, settings=settings)


def decoder(model, method, **options) -> RagDecoder:
    return RagDecoder(model, method, write_prompt=kit.write, **options)


def truth(model: SpringModel, count: int) -> kit.Enumerated:
    return kit.enumerated(model.frozen.model, kit.PASSAGES[:count], model.tokens)


class TestEnumeration:
    @every_count
    def test_beams_on_the_mixture_find_the_likeliest_answer(self, five, count) -> None:
        everything = truth(five, count)
        ids, log_probability = everything.best(everything.rag_token())
        answer = decoder(five, "rag-token").answer(kit.QUESTION, kit.PASSAGES[:count], num_beams=EVERYTHING)
        assert answer.token_ids == ids
        assert answer.log_probability == pytest.approx(log_probability, abs=1e-5)

    @every_count
    @pytest.mark.parametrize("method", METHODS[1:])
    def test_beams_under_every_passage_find_the_likeliest_answer(self, five, count, method) -> None:
        everything = truth(five, count)
        ids, log_probability = everything.best(everything.rag_sequence())
        answer = decoder(five, method).answer(kit.QUESTION, kit.PASSAGES[:count], num_beams=EVERYTHING)
        assert answer.token_ids == ids
        assert answer.log_probability == pytest.approx(log_probability, abs=1e-5)
        at = kit.ANSWERS.index(ids)
        joint = everything.prior * everything.tokens[at].sum(-1).exp()
        assert answer.posterior == pytest.approx((joint / joint.sum()).tolist(), abs=1e-5)
        assert answer.token_posterior is None

    @every_count
    def test_greedy_takes_the_likeliest_token_of_the_mixture_at_every_step(self, five, count) -> None:
        everything = truth(five, count)
        passages = kit.PASSAGES[:count]
        ids: tuple[int, ...] = ()
        posteriors = []
        while len(ids) < kit.LENGTH and kit.END not in ids:
            joint = {
                answer[len(ids)]: everything.prior * everything.tokens[n, :, len(ids)].exp()
                for n, answer in enumerate(kit.ANSWERS)
                if len(answer) > len(ids) and answer[: len(ids)] == ids
            }
            best = max(joint, key=lambda token: float(joint[token].sum()))
            posteriors.append((joint[best] / joint[best].sum()).tolist())
            ids = (*ids, best)
        answer = decoder(five, "rag-token").answer(kit.QUESTION, passages)
        assert answer.token_ids == ids
        assert [pytest.approx(p, abs=1e-5) for p in posteriors] == [list(p) for p in answer.token_posterior]
        assert answer.posterior == pytest.approx(torch.tensor(posteriors).mean(0).tolist(), abs=1e-5)
        at = kit.ANSWERS.index(ids)
        assert answer.log_probability == pytest.approx(float(everything.rag_token()[at].log()), abs=1e-5)

    @every_count
    @pytest.mark.parametrize("beams", [1, 2, 3])
    def test_narrow_beams_weigh_what_transformers_beams_find(self, five, count, beams) -> None:
        everything = truth(five, count)
        held: dict[tuple[int, ...], set[int]] = {}
        for z, passage in enumerate(kit.PASSAGES[:count]):
            for ids in _their_beams(five, passage, beams):
                held.setdefault(ids, set()).add(z)
        joint = everything.prior * everything.tokens.sum(-1).exp()
        worth = {
            "rag-sequence": {ids: float(joint[kit.ANSWERS.index(ids)].sum()) for ids in held},
            "rag-sequence-fast": {
                ids: float(sum(joint[kit.ANSWERS.index(ids), z] for z in zs)) for ids, zs in held.items()
            },
        }
        for method, values in worth.items():
            answer = decoder(five, method).answer(kit.QUESTION, kit.PASSAGES[:count], num_beams=beams)
            assert answer.token_ids == max(values, key=values.__getitem__)
            assert answer.log_probability == pytest.approx(math.log(max(values.values())), abs=1e-5)
            if method == "rag-sequence-fast":
                silent = set(range(count)) - held[answer.token_ids]
                assert {z for z, p in enumerate(answer.posterior) if p == 0} == silent

    @every_count
    @pytest.mark.parametrize("method", METHODS[:2])
    def test_likelihoods_of_all_answers(self, five, count, method) -> None:
        everything = truth(five, count)
        expected = everything.rag_token() if method == "rag-token" else everything.rag_sequence()
        texts = [" ".join(kit.WORDS[i] for i in ids) for ids in kit.ANSWERS]
        found = decoder(five, method).log_likelihood(kit.QUESTION, kit.PASSAGES[:count], texts)
        torch.testing.assert_close(torch.tensor(found).double().exp(), expected, rtol=1e-4, atol=1e-8)
        assert sum(map(math.exp, found)) == pytest.approx(1, abs=1e-4)

    def test_samples_are_distributed_as_the_mixture(self, five) -> None:
        everything = truth(five, 3)
        expected = torch.zeros(5, dtype=torch.float64)
        for ids, probability in zip(kit.ANSWERS, everything.rag_token(), strict=True):
            expected[ids[0]] += probability
        rag = decoder(five, "rag-token")
        drawn = [
            rag.answer(kit.QUESTION, kit.PASSAGES, temperature=1.0, seed=seed, max_new_tokens=1).token_ids[0]
            for seed in range(300)
        ]
        found = torch.bincount(torch.tensor(drawn), minlength=5) / len(drawn)
        assert (found - expected).abs().max() < 0.115  # four standard deviations
        assert len(set(drawn)) > 2


@pytest.mark.parametrize("beams", [2, 3])
def test_beams_hold_what_transformers_beams_hold(beams) -> None:
    model = SpringModel(kit.five_word_llama(), kit.five_words())
    settings = BeamSettings(beams, 10, lambda ids: ids[-1] == kit.END)
    prompts = [(p, question) for p in kit.PASSAGES for question in ("a", "c a", "b c", "c c b a", "b", "a a a")]
    found = beam_search(causal_rows(model.frozen, [_ids(model, *prompt) for prompt in prompts]), settings)
    for hypotheses, (passage, question) in zip(found, prompts, strict=True):
        assert [h.ids for h in hypotheses] == _their_beams(model, passage, beams, question, length=10)


def _ids(model: SpringModel | Seq2SeqModel, passage: Passage, question: str) -> list[int]:
    first = model.frozen.attach(model.tokens) if model.tokens else 0
    return model.frozen.encode(kit.write(passage, question), range(first, first + model.k))


def _their_beams(
    model: SpringModel | Seq2SeqModel,
    passage: Passage,
    beams: int,
    question: str = kit.QUESTION,
    length: int = kit.LENGTH,
) -> list[tuple[int, ...]]:
    """Returns what transformers' own beam search finds under one passage."""
    ids = torch.tensor([_ids(model, passage, question)])
    out = model.frozen.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,
        max_new_tokens=length,
        do_sample=False,
        pad_token_id=0,
    )
    given = 1 if model.frozen.model.config.is_encoder_decoder else ids.shape[1]
    rows = [tuple(row) for row in out[:, given:].tolist()]
    return [row[: row.index(kit.END) + 1] if kit.END in row else row for row in rows]


class TestOnePassage:
    @pytest.mark.parametrize("family", tiny_models.ARCHITECTURES)
    @pytest.mark.parametrize("k", [0, 8])
    def test_is_ordinary_generation(self, family, k, random_tokens) -> None:
        model = SpringModel(*tiny_models.build(family), random_tokens)
        for passage, beams in itertools.product(PASSAGES[:2], (1, 3)):
            call = {"k": k, "num_beams": beams, "max_new_tokens": 9}
            (plain,) = model.generate(model.prompt([passage], QUESTION), **call)
            for method in METHODS:
                answer = RagDecoder(model, method, length_penalty=1.0).answer(QUESTION, [passage], **call)
                assert (answer.text, answer.completion_tokens, answer.finish_reason, answer.prompt_tokens) == (
                    plain.text,
                    plain.completion_tokens,
                    plain.finish_reason,
                    plain.prompt_tokens,
                )
                assert answer.prior == answer.posterior == (1.0,)
                assert answer.k == k

    @pytest.mark.parametrize("method", METHODS[:2])
    def test_likelihood_is_the_models_score(self, spring_llama, method) -> None:
        answers = [" Lima", " a river of Peru", ""]
        found = RagDecoder(spring_llama, method).log_likelihood(QUESTION, PASSAGES[:1], answers, add_eos=True)
        expected = spring_llama.score(spring_llama.prompt(PASSAGES[:1], QUESTION), answers, add_eos=True)
        assert found == pytest.approx(expected, abs=1e-4)
        assert RagDecoder(spring_llama, method).log_likelihood(QUESTION, PASSAGES[:1], [""]) == [0.0]


class TestTrace:
    def test_is_bayes_rule_on_the_scores_of_the_passages_alone(self, spring_llama) -> None:
        alone = [spring_llama.score(spring_llama.prompt([p], QUESTION), [" Lima city"])[0] for p in PASSAGES]
        prior = log_prior(torch.tensor([p.score for p in PASSAGES], dtype=torch.float64))
        expected = (prior + torch.tensor(alone, dtype=torch.float64)).softmax(0)
        traced = RagDecoder(spring_llama, "rag-sequence").trace(QUESTION, PASSAGES, " Lima city")
        assert traced.posterior == pytest.approx(expected.tolist(), abs=1e-4)
        assert traced.token_posterior is None

    def test_of_rag_token_is_one_for_each_token(self, spring_llama) -> None:
        traced = RagDecoder(spring_llama).trace(QUESTION, PASSAGES, " Lima city")
        assert len(traced.token_posterior) == len(traced.token_ids) > 1
        assert [sum(shares) for shares in traced.token_posterior] == pytest.approx([1] * len(traced.token_ids))

    @pytest.mark.parametrize("method", METHODS[:2])
    def test_is_as_likely_as_the_likelihood_says(self, spring_llama, method) -> None:
        decoder = RagDecoder(spring_llama, method)
        traced = decoder.trace(QUESTION, PASSAGES, " Lima", k=2)
        assert traced.log_probability == pytest.approx(decoder.log_likelihood(QUESTION, PASSAGES, [" Lima"], k=2)[0])
        assert sum(traced.posterior) == pytest.approx(1)
        assert (traced.k, traced.text, traced.method) == (2, " Lima", method)

    def test_of_no_answer_is_an_error(self, spring_llama) -> None:
        with pytest.raises(PromptError, match="the answer '' is empty"):
            RagDecoder(spring_llama).trace(QUESTION, PASSAGES, "")


class TestSeveralPassages:
    @pytest.mark.parametrize("family", [*tiny_models.ARCHITECTURES, "mistral-sliding", "qwen3", "mpt"])
    @pytest.mark.parametrize("instruction", ["", "Answer from the passage, and from the passage only. " * 3])
    def test_likelihood_is_that_of_the_prompts_alone(self, family, instruction, random_tokens) -> None:
        model = SpringModel(*tiny_models.build(family), random_tokens)

        def prompt(passage: Passage, question: str) -> RagPrompt:
            return RagPrompt(f"{instruction}{passage.text}\n\n", f"Question: {question}\nAnswer:", "explicit")

        answers = [" Lima, in the river Rímac", " Röntgen"]
        scores = torch.tensor([model.score(prompt(p, QUESTION), answers) for p in PASSAGES]).double()
        prior = torch.tensor([p.score for p in PASSAGES]).double().log_softmax(0)
        found = RagDecoder(model, "rag-sequence", write_prompt=prompt).log_likelihood(QUESTION, PASSAGES, answers)
        assert found == pytest.approx((prior[:, None] + scores).logsumexp(0).tolist(), abs=1e-3)

    def test_what_prompts_share_runs_once(self, spring_llama) -> None:
        seen = []
        spring_llama.backbone.get_input_embeddings().register_forward_hook(lambda _, ids, __: seen.append(ids[0]))
        instruction = "Answer from the passage, and from the passage only. " * 3

        def prompt(passage: Passage, question: str) -> RagPrompt:
            return RagPrompt(f"{instruction}{passage.text}\n\n", question, "explicit")

        answer = RagDecoder(spring_llama, write_prompt=prompt).answer(QUESTION, PASSAGES, max_new_tokens=1)
        shared = len(spring_llama.tokenizer(instruction).input_ids) - 1
        assert [len(ids) for ids in seen] == [1, 3]
        assert seen[0].shape[1] >= shared
        assert sum(ids.numel() for ids in seen) < answer.prompt_tokens

    def test_prompts_of_similar_length_run_together(self, spring_llama) -> None:
        seen = []
        spring_llama.backbone.get_input_embeddings().register_forward_hook(lambda _, ids, __: seen.append(ids[0]))
        lengths = [5, 60, 6, 55, 7, 58]
        passages = [Passage(f"{n} times" + " sea" * n, score=0.0) for n in lengths]
        answer = RagDecoder(spring_llama).answer(QUESTION, passages, max_new_tokens=1)
        assert [len(ids) for ids in seen] == [3, 3]
        assert sum(ids.numel() for ids in seen) < 1.1 * answer.prompt_tokens

    def test_prompts_without_a_boundary_get_no_virtual_tokens(self, spring_llama) -> None:
        def prompt(passage: Passage, question: str) -> RagPrompt:
            return RagPrompt(f"{passage.text} {question}", "", None)

        rag = RagDecoder(spring_llama, write_prompt=prompt)
        answer = rag.answer(QUESTION, PASSAGES, max_new_tokens=5)
        assert answer.k == 0
        assert answer == rag.answer(QUESTION, PASSAGES, k=0, max_new_tokens=5)

    @every_method
    @pytest.mark.parametrize("beams", [1, 3])
    def test_order_does_not_matter(self, spring_llama, method, beams) -> None:
        rag = RagDecoder(spring_llama, method)
        first = rag.answer(QUESTION, PASSAGES, num_beams=beams, max_new_tokens=12)
        for order in itertools.permutations(range(3)):
            other = rag.answer(QUESTION, [PASSAGES[i] for i in order], num_beams=beams, max_new_tokens=12)
            assert other.token_ids == first.token_ids
            assert other.log_probability == pytest.approx(first.log_probability, abs=1e-4)
            assert other.posterior == pytest.approx([first.posterior[i] for i in order], abs=1e-4)

    @every_method
    def test_an_answer_found_twice_counts_once(self, spring_llama, method) -> None:
        rag = RagDecoder(spring_llama, method)
        once = rag.answer(QUESTION, PASSAGES[:1], num_beams=3, max_new_tokens=6)
        twice = rag.answer(QUESTION, [PASSAGES[0]] * 2, num_beams=3, max_new_tokens=6)
        assert twice.token_ids == once.token_ids
        assert twice.log_probability == pytest.approx(once.log_probability, abs=1e-4)
        assert twice.posterior == pytest.approx((0.5, 0.5), abs=1e-4)

    def test_score_temperature_moves_between_the_best_passage_and_all_alike(self, spring_llama) -> None:
        def prior(temperature: float) -> tuple[float, ...]:
            rag = RagDecoder(spring_llama, score_temperature=temperature)
            return rag.answer(QUESTION, PASSAGES, max_new_tokens=1).prior

        assert prior(1e-3) == pytest.approx((0, 0, 1), abs=1e-9)
        assert prior(1e3) == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-3)
        assert prior(0.5) == pytest.approx(torch.tensor([1.8, 0.4, 2.2]).softmax(0).tolist(), abs=1e-6)

    @every_method
    def test_fifty_passages(self, spring_llama, method) -> None:
        many = [Passage(f"Passage {i} of Lima", score=i / 10) for i in range(50)]
        answer = RagDecoder(spring_llama, method).answer(QUESTION, many, max_new_tokens=3)
        assert len(answer.posterior) == 50
        assert sum(answer.posterior) == pytest.approx(1)
        with pytest.raises(DataError, match="51 passages"):
            RagDecoder(spring_llama, method).answer(QUESTION, [*many, many[0]])


class TestStream:
    @pytest.mark.parametrize("family", ["llama", "gemma", "bert", "mistral"])
    @pytest.mark.parametrize("call", [{}, {"temperature": 1.5, "seed": 3, "top_k": 40, "top_p": 0.9}])
    def test_pieces_are_the_answer(self, family, call, random_tokens) -> None:
        rag = RagDecoder(SpringModel(*tiny_models.build(family), random_tokens))
        *pieces, end = rag.stream(QUESTION, PASSAGES, max_new_tokens=30, **call)
        assert "".join(pieces) == end.text
        assert end == rag.answer(QUESTION, PASSAGES, max_new_tokens=30, **call)
        assert len(pieces) > 3

    @pytest.mark.parametrize("method", METHODS[1:])
    def test_a_whole_answer_is_one_piece(self, spring_llama, method) -> None:
        pieces = list(RagDecoder(spring_llama, method).stream(QUESTION, PASSAGES, max_new_tokens=5))
        assert pieces[0] == pieces[1].text
        assert len(pieces) == 2

    def test_the_model_runs_no_further_than_it_is_read(self, spring_llama) -> None:
        calls = []
        spring_llama.backbone.register_forward_hook(lambda *_: calls.append(1))
        pieces = RagDecoder(spring_llama).stream(QUESTION, PASSAGES, max_new_tokens=30)
        next(pieces)
        pieces.close()
        assert len(calls) < 10

    @every_method
    def test_stop_strings(self, spring_llama, method) -> None:
        rag = RagDecoder(spring_llama, method)
        whole = rag.answer(QUESTION, PASSAGES, max_new_tokens=20)
        stop = whole.text[5:8]
        cut = rag.answer(QUESTION, PASSAGES, max_new_tokens=20, stop=stop)
        assert stop not in cut.text
        assert cut.finish_reason == "stop"
        assert "".join(list(rag.stream(QUESTION, PASSAGES, max_new_tokens=20, stop=stop))[:-1]) == cut.text

    def test_same_seed_same_sample(self, spring_llama) -> None:
        rag = RagDecoder(spring_llama)
        draws = [rag.answer(QUESTION, PASSAGES, temperature=2.0, seed=s, max_new_tokens=9) for s in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]
        greedy = rag.answer(QUESTION, PASSAGES, max_new_tokens=9)
        assert rag.answer(QUESTION, PASSAGES, temperature=2.0, top_k=1, max_new_tokens=9) == greedy

    def test_threads_do_not_disturb_each_other(self, spring_llama) -> None:
        def ask(task: tuple[str, int | None]) -> RagAnswer:
            return RagDecoder(spring_llama, task[0]).answer(QUESTION, PASSAGES, k=task[1], max_new_tokens=8)

        tasks = [(method, k) for method in METHODS for k in (0, 3, None)]
        alone = [ask(task) for task in tasks]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, tasks)) == alone


class TestRefusals:
    @pytest.mark.parametrize("score", [None, math.nan, math.inf, "1", True])
    def test_passages_need_finite_scores(self, spring_llama, score) -> None:
        passages = [PASSAGES[0], replace(PASSAGES[1], score=score)]
        with pytest.raises(DataError, match=r"passage 2 of 2 \('The river.*has the score"):
            RagDecoder(spring_llama).answer(QUESTION, passages)

    def test_no_passages(self, spring_llama) -> None:
        with pytest.raises(DataError, match="no passage was retrieved for this question"):
            RagDecoder(spring_llama).answer(QUESTION, [])

    def test_texts_have_no_scores(self, spring_llama) -> None:
        with pytest.raises(DataError, match=r"passage 1 of 1 \('Lima'…\) has the score None.*Passage\(text, score=…\)"):
            RagDecoder(spring_llama).answer(QUESTION, ["Lima"])

    def test_answers_that_are_no_list_of_texts(self, spring_llama) -> None:
        rag = RagDecoder(spring_llama)
        with pytest.raises(ArgumentsError, match=r"got the string 'abc'; give \['abc'\] for one"):
            rag.log_likelihood(QUESTION, PASSAGES, "abc")
        for call, wrong in ((rag.log_likelihood, [None]), (rag.trace, None)):
            with pytest.raises(ArgumentsError, match="an answer must be a str, got NoneType None"):
                call(QUESTION, PASSAGES, wrong)
        with pytest.raises(ArgumentsError, match="takes a SpringModel or a Seq2SeqModel, got str 'demo'"):
            RagDecoder("demo")

    def test_an_answer_that_is_there_is_not_called_new_tokens(self, spring_llama) -> None:
        calls = (
            lambda: RagDecoder(spring_llama).trace(QUESTION, PASSAGES, "Lima " * 600),
            lambda: spring_llama.score("Lima", ["Lima " * 600]),
        )
        for call in calls:
            with pytest.raises(
                (SettingsError, PromptTooLongError), match=r"an answer of .*shorten the answer"
            ) as raised:
                call()
            assert "max_new_tokens" not in str(raised.value)

    @pytest.mark.parametrize("boundaries", [(False, False), (True, False)])
    def test_prompts_without_a_boundary_are_reported_as_the_model_says(self, spring_llama, caplog, boundaries) -> None:
        texts = [p.text for p, has in zip(PASSAGES, boundaries, strict=False) if not has]

        def write(passage: Passage, question: str) -> RagPrompt:
            bare = RagPrompt(f"{passage.text} {question}", "", boundary=None)
            return bare if passage.text in texts else RagPrompt.from_passages([passage], question)

        rag = RagDecoder(spring_llama, write_prompt=write)
        assert [rag.answer(QUESTION, PASSAGES[:2], max_new_tokens=1).k for _ in range(2)] == [0, 0]
        assert caplog.text.count("no boundary between context and question was found") == 1
        strict = RagDecoder(spring_llama.with_changes(on_missing_boundary="error"), write_prompt=write)
        with pytest.raises(BoundaryError, match="no boundary between context and question"):
            strict.answer(QUESTION, PASSAGES[:2], max_new_tokens=1)
        assert strict.answer(QUESTION, PASSAGES[:2], k=0, max_new_tokens=1).k == 0

    def test_empty_question(self, spring_llama) -> None:
        with pytest.raises(PromptError, match="question is empty"):
            RagDecoder(spring_llama).stream(" ", PASSAGES)

    def test_settings_that_a_method_does_not_define(self, spring_llama) -> None:
        with pytest.raises(SettingsError, match="rag-sequence does not sample"):
            RagDecoder(spring_llama, "rag-sequence").stream(QUESTION, PASSAGES, temperature=0.5)
        with pytest.raises(SettingsError, match=r"repetition_penalty=1\.2 is not defined"):
            RagDecoder(spring_llama).answer(QUESTION, PASSAGES, repetition_penalty=1.2)
        with pytest.raises(SettingsError, match="method='rag' is not one of 'rag-token'"):
            RagDecoder(spring_llama, "rag")
        with pytest.raises(SettingsError, match="above 0, got 0"):
            RagDecoder(spring_llama, score_temperature=0)
        with pytest.raises(SettingsError, match="above 0, got True"):
            RagDecoder(spring_llama, score_temperature=True)
        for penalty in ("a", None, math.nan, 1e9):
            with pytest.raises(SettingsError, match="length_penalty must be a number from -10 to 10"):
                RagDecoder(spring_llama, length_penalty=penalty)

    def test_a_passage_that_does_not_fit_is_left_out_with_a_warning(self, spring_llama, caplog) -> None:
        long = Passage("Lima " * 600, score=2.0)
        answer = RagDecoder(spring_llama).answer(QUESTION, [long, *PASSAGES], max_new_tokens=4)
        assert answer.passages == PASSAGES
        assert answer.dropped_passages == 1
        assert answer.prior == pytest.approx(torch.tensor([p.score for p in PASSAGES]).softmax(0).tolist())
        assert "1 of 4 passages make a prompt longer than the 508 tokens" in caplog.text
        with pytest.raises(PromptTooLongError, match="1 of 1 passages"):
            RagDecoder(spring_llama).answer(QUESTION, [long], max_new_tokens=4)
        strict = spring_llama.with_changes(on_too_long="error")
        with pytest.raises(PromptTooLongError, match="shorten the passages"):
            RagDecoder(strict).answer(QUESTION, [long, *PASSAGES], max_new_tokens=4)

    @pytest.mark.parametrize("family", ["mamba", "lfm2"])
    def test_models_without_a_kv_cache(self, family) -> None:
        with pytest.raises(BackboneError, match="keeps a state that is not a KV cache"):
            RagDecoder(SpringModel(*tiny_models.build(family))).answer(QUESTION, PASSAGES)

    def test_a_causal_model_is_no_encoder_decoder(self, llama) -> None:
        with pytest.raises(BackboneError, match="is not an encoder-decoder; load it with"):
            Seq2SeqModel(*llama)


class TestPrior:
    @limits(deadline=None)
    @given(
        scores=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
        temperature=st.floats(1e-3, 1e3),
    )
    def test_is_a_distribution_that_follows_the_scores(self, scores, temperature) -> None:
        prior = log_prior(torch.tensor(scores, dtype=torch.float64), temperature)
        assert torch.isfinite(prior).all()
        assert float(prior.exp().sum()) == pytest.approx(1)
        order = sorted(range(len(scores)), key=scores.__getitem__)
        assert (prior[order].diff() >= 0).all()

    def test_temperature_divides_the_scores(self) -> None:
        scores = torch.tensor([0.8, 0.7, 0.3])
        expected = torch.tensor([16.0, 14.0, 6.0]).softmax(0)
        torch.testing.assert_close(log_prior(scores, 0.05).exp(), expected)

    def test_auto_sharpens_cosines_and_leaves_other_scores_as_they_are(self) -> None:
        cosines, bm25 = torch.tensor([0.8, -0.7]), torch.tensor([7.1, 0.3])
        torch.testing.assert_close(log_prior(cosines, "auto"), log_prior(cosines, COSINE_TEMPERATURE))
        torch.testing.assert_close(log_prior(bm25, "auto"), log_prior(bm25, 1.0))
