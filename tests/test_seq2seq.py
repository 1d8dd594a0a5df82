"""Encoder-decoder generators: virtual tokens in the encoder, and the likelihoods of transformers' own RAG classes."""

from __future__ import annotations

import decoding_kit as kit
import numpy as np
import pytest
import tiny_models
import torch
from transformers import (
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RagSequenceForGeneration,
    RagTokenForGeneration,
)

from spring_integrations import Passage, SpringModel, SpringTokens
from spring_integrations.decoding import RagDecoder, Seq2SeqModel
from spring_integrations.errors import BackboneError, PromptTooLongError, SettingsError, TokensError
from spring_integrations.retrieval import PassageStore
from spring_integrations.retrieval.dpr import DPREmbedder
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone, VirtualEmbedding
from spring_integrations.tokens import TokensMetadata

PASSAGES = (
    Passage("Lima is the capital of Peru.", id="p0", score=0.9),
    Passage("The river Rímac flows through Lima to the sea, says the 東京 paper.", id="p1", score=0.2),
    Passage("Röntgen got the first Nobel Prize in Physics.", id="p2", score=1.1),
)
QUESTION = "what is the capital of Peru?"
ANSWERS = ["Lima", "the river Rímac and the sea", "Röntgen got"]
KINDS = ("bart", "t5")
every_kind = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, **settings) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Returns a random encoder-decoder whose table has more rows than its tokenizer, and the tokenizer."""
    words = kit.seq2seq_tokenizer(kind)
    return (kit.bart if kind == "bart" else kit.t5)(len(words) + 5, **settings), words


def _recipe(model: PreTrainedModel, words, prompt, tokens: SpringTokens | None) -> dict:
    """Returns what `generate` needs for a prompt whose virtual tokens are rows in the encoder's embedding matrix."""
    encoder = model.get_encoder()
    embed = encoder.get_input_embeddings()
    embed = getattr(embed, "base", embed)
    before, after = (torch.tensor(words(t, add_special_tokens=False).input_ids) for t in (prompt.before, prompt.after))
    special = words("").input_ids
    opening, end = torch.tensor(special[:-1], dtype=torch.long), torch.tensor(special[-1:])
    scale = getattr(embed, "embed_scale", 1.0)
    table = tokens.embeddings * scale if tokens is not None else embed(before)[:0]
    vectors = torch.cat([embed(opening), embed(before), table, embed(after), embed(end)])[None]
    mask = torch.ones(vectors.shape[:2], dtype=torch.long)
    with torch.no_grad():
        return {"encoder_outputs": encoder(inputs_embeds=vectors, attention_mask=mask), "attention_mask": mask}


class TestVirtualTokensInTheEncoder:
    @every_kind
    @pytest.mark.parametrize("k", [0, 8])
    @pytest.mark.parametrize("beams", [1, 3])
    def test_one_passage_is_ordinary_generation(self, kind, k, beams, random_tokens) -> None:
        model, words = build(kind)
        rag = Seq2SeqModel(model, words, random_tokens, k=k)
        prompt = rag.prompt(PASSAGES[:1], QUESTION)
        given = _recipe(model, words, prompt, random_tokens if k else None)
        rows = model.generate(**given, num_beams=beams, do_sample=False, max_new_tokens=10, length_penalty=0.0)
        expected = words.decode(rows[0], skip_special_tokens=True)
        for method in ("rag-token", "rag-sequence", "rag-sequence-fast"):
            answer = RagDecoder(rag, method).answer(QUESTION, PASSAGES[:1], num_beams=beams, max_new_tokens=10)
            assert answer.text == expected
            assert answer.k == k
            assert answer.prompt_tokens == given["attention_mask"].shape[1]

    @every_kind
    def test_the_tokens_matter_and_the_decoder_knows_none(self, kind, random_tokens) -> None:
        model, words = build(kind)
        decoder_embedding = model.get_decoder().get_input_embeddings()
        modules, names = list(model.modules()), list(model.state_dict())
        rag = RagDecoder(Seq2SeqModel(model, words, random_tokens), "rag-sequence")
        with_tokens = rag.log_likelihood(QUESTION, PASSAGES, ANSWERS)
        assert isinstance(model.get_encoder().get_input_embeddings(), VirtualEmbedding)
        assert model.get_decoder().get_input_embeddings() is decoder_embedding
        assert not np.allclose(with_tokens, rag.log_likelihood(QUESTION, PASSAGES, ANSWERS, k=0), atol=1e-2)
        assert list(model.state_dict()) == names
        rag.model.frozen.detach()
        assert all(a is b for a, b in zip(model.modules(), modules, strict=True))

    @every_kind
    def test_a_virtual_id_is_never_generated(self, kind) -> None:
        model, words = build(kind)
        huge = SpringTokens(50 * torch.randn(8, tiny_models.WIDTH, generator=torch.Generator().manual_seed(1)))
        rag = RagDecoder(Seq2SeqModel(model, words, huge))
        rows = model.config.vocab_size
        for seed in range(5):
            answer = rag.answer(QUESTION, PASSAGES, temperature=3.0, seed=seed, max_new_tokens=20)
            assert max(answer.token_ids) < rows

    @every_kind
    def test_a_passage_does_not_depend_on_its_neighbours(self, kind, random_tokens) -> None:
        model = Seq2SeqModel(*build(kind), random_tokens)
        rag = RagDecoder(model, "rag-sequence")
        alone = torch.tensor([rag.log_likelihood(QUESTION, [p], ANSWERS) for p in PASSAGES]).double()
        prior = torch.tensor([p.score for p in PASSAGES]).double().log_softmax(0)
        expected = (prior[:, None] + alone).logsumexp(0).tolist()
        assert rag.log_likelihood(QUESTION, PASSAGES, ANSWERS) == pytest.approx(expected, abs=1e-4)

    @every_kind
    def test_stream_and_beams_agree_with_their_definitions(self, kind, random_tokens) -> None:
        rag = RagDecoder(Seq2SeqModel(*build(kind), random_tokens))
        *pieces, end = rag.stream(QUESTION, PASSAGES, max_new_tokens=15)
        assert "".join(pieces) == end.text
        wide = rag.answer(QUESTION, PASSAGES, num_beams=8, max_new_tokens=5)
        assert wide.log_probability >= rag.answer(QUESTION, PASSAGES, max_new_tokens=5).log_probability - 1e-6

    def test_a_forced_first_token_is_given_and_not_generated(self) -> None:
        model, words = build("bart")
        model.generation_config.forced_bos_token_id = 0
        rag = Seq2SeqModel(model, words)
        prompt = rag.prompt(PASSAGES[:1], QUESTION)
        rows = model.generate(**_recipe(model, words, prompt, None), num_beams=1, do_sample=False, max_new_tokens=9)
        assert rows[0, 1] == 0
        answer = RagDecoder(rag).answer(QUESTION, PASSAGES[:1], max_new_tokens=8)
        assert list(answer.token_ids) == rows[0, 2:].tolist()
        target = [0, *words(ANSWERS[0]).input_ids[1:]]
        (found,) = RagDecoder(rag).log_likelihood(QUESTION, PASSAGES[:1], ANSWERS[:1], add_eos=True)
        ids = torch.tensor([rag.frozen.encode(prompt, range(0))])
        start = torch.tensor([[model.config.decoder_start_token_id, *target[:-1]]])
        with torch.no_grad():
            logits = model(input_ids=ids, decoder_input_ids=start).logits[0, 1:].log_softmax(-1)
        expected = sum(float(row[i]) for row, i in zip(logits, target[1:], strict=True))
        assert found == pytest.approx(expected, abs=1e-4)


class TestTransformersOwnClasses:
    @pytest.mark.parametrize("k", [0, 8])
    @pytest.mark.parametrize("count", [1, 2, 3])
    @pytest.mark.parametrize(
        ("method", "oracle"), [("rag-sequence", RagSequenceForGeneration), ("rag-token", RagTokenForGeneration)]
    )
    def test_likelihoods_are_equal(self, method, oracle, count, k, random_tokens) -> None:
        model, words = build("bart")
        theirs = oracle(question_encoder=_dpr(DPRQuestionEncoder, len(words)), generator=model).eval()
        rag = Seq2SeqModel(model, words, random_tokens, k=k)
        found = RagDecoder(rag, method).log_likelihood(QUESTION, PASSAGES[:count], ANSWERS, add_eos=True)
        first = rag.frozen.attach(random_tokens)
        prompts = [rag.frozen.encode(rag.prompt([p], QUESTION), range(first, first + k)) for p in PASSAGES[:count]]
        longest = max(map(len, prompts))
        contexts = torch.tensor([p + [words.pad_token_id] * (longest - len(p)) for p in prompts])
        mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts])
        start = model.config.decoder_start_token_id
        for answer, value in zip(ANSWERS, found, strict=True):
            with torch.no_grad():
                out = theirs(
                    context_input_ids=contexts,
                    context_attention_mask=mask,
                    doc_scores=torch.tensor([[p.score for p in PASSAGES[:count]]]),
                    labels=torch.tensor([[start, *words(answer).input_ids]]),
                    n_docs=count,
                )
            assert value == pytest.approx(-float(out.loss), abs=1e-4)

    def test_padding_of_a_batch_of_answers_counts_for_nothing(self) -> None:
        rag = RagDecoder(Seq2SeqModel(*build("bart")), "rag-token")
        together = rag.log_likelihood(QUESTION, PASSAGES, ANSWERS, add_eos=True)
        alone = [rag.log_likelihood(QUESTION, PASSAGES, [a], add_eos=True)[0] for a in ANSWERS]
        assert together == pytest.approx(alone, abs=1e-4)


def _dpr(cls: type, vocabulary: int) -> PreTrainedModel:
    config = DPRConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=128,
        initializer_range=0.4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4 if cls is DPRQuestionEncoder else 5)
        return cls(config).eval()


class TestFromDPRToBart:
    """The paper's system: question encoder, passage encoder, inner-product index and BART, all with random weights."""

    @pytest.fixture
    def store(self, tmp_path) -> PassageStore:
        words = tiny_models.tokenizer("wordpiece")
        for cls in (DPRQuestionEncoder, DPRContextEncoder):
            _dpr(cls, len(words)).save_pretrained(tmp_path / cls.__name__)
            words.save_pretrained(tmp_path / cls.__name__)
        encoders = (str(tmp_path / cls.__name__) for cls in (DPRQuestionEncoder, DPRContextEncoder))
        store = PassageStore.open(tmp_path / "index", DPREmbedder(*encoders, device="cpu"))
        store.add([*PASSAGES, *(Passage(text, id=f"s{i}") for i, text in enumerate(tiny_models.SENTENCES))])
        return store

    @pytest.mark.parametrize("method", ["rag-token", "rag-sequence", "rag-sequence-fast"])
    def test_answers_with_provenance(self, store, tmp_path, method, random_tokens) -> None:
        found = store.search(QUESTION, 4)
        rag = RagDecoder(Seq2SeqModel(*build("bart"), random_tokens), method)
        answer = rag.answer(QUESTION, found, num_beams=2, max_new_tokens=8)
        assert answer.passages == tuple(found)
        products = torch.tensor([self._inner_product(tmp_path, p.text) for p in found]).double()
        assert answer.prior == pytest.approx(products.softmax(0).tolist(), abs=1e-3)
        assert products[0] > products[-1]
        assert sum(answer.posterior) == pytest.approx(1)
        assert answer.token_ids
        assert answer.log_probability < 0

    def _inner_product(self, folder, passage: str) -> float:
        words = tiny_models.tokenizer("wordpiece")
        with torch.no_grad():
            question, context = (
                cls.from_pretrained(folder / cls.__name__)(**words(text, return_tensors="pt")).pooler_output[0]
                for cls, text in ((DPRQuestionEncoder, QUESTION), (DPRContextEncoder, passage))
            )
        return float(question @ context)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    """A checkpoint folder, saved with the wrapper in place."""
    folder = tmp_path_factory.mktemp(request.param)
    model, words = build(request.param)
    Seq2SeqModel(model, words, SpringTokens(torch.ones(1, tiny_models.WIDTH)))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


class TestLoading:
    def test_folder(self, folder, tokens_file) -> None:
        again = Seq2SeqModel.from_pretrained(str(folder), tokens_file, k=3)
        assert (again.k, len(again.tokens)) == (3, 8)
        fresh = Seq2SeqModel(*build("bart" if "bart" in folder.name else "t5"), again.tokens, k=3)
        expected = RagDecoder(fresh).log_likelihood(QUESTION, PASSAGES, ANSWERS)
        assert RagDecoder(again).log_likelihood(QUESTION, PASSAGES, ANSWERS) == pytest.approx(expected, abs=1e-4)

    def test_what_needs_a_causal_model_says_where_encoder_decoders_go(self, folder) -> None:
        model, words = build("bart")
        for refused in (
            lambda: SpringModel.from_pretrained(str(folder)),
            lambda: Backbone.load(str(folder)),
            lambda: SpringModel(model, words),
            lambda: SpringModel(Seq2SeqBackbone(model, words)),
        ):
            with pytest.raises(BackboneError, match=r"spring_integrations\.decoding\.Seq2SeqModel takes it"):
                refused()

    def test_a_causal_checkpoint_is_refused(self, llama_folder) -> None:
        with pytest.raises(BackboneError, match="is not an encoder-decoder; load it with Backbone or SpringModel"):
            Seq2SeqModel.from_pretrained(str(llama_folder))

    def test_folder_of_something_else(self, tmp_path) -> None:
        with pytest.raises(BackboneError, match="is not a folder of an encoder-decoder"):
            Seq2SeqBackbone.load(str(tmp_path))

    def test_arguments_that_do_not_fit(self) -> None:
        model, words = build("t5")
        with pytest.raises(SettingsError, match="needs its tokenizer"):
            Seq2SeqModel(model)
        with pytest.raises(SettingsError, match="on_too_long='cut' is not one of 'warn', 'error'"):
            Seq2SeqModel(model, words, on_too_long="cut")
        with pytest.raises(TokensError, match="k=2 virtual tokens asked for, but the model has none"):
            Seq2SeqModel(model, words, k=2)
        with pytest.raises(TokensError, match="d=7"):
            Seq2SeqModel(model, words, SpringTokens(torch.ones(2, 7)))

    def test_tokens_of_another_backbone_are_told(self, caplog) -> None:
        model, words = build("t5")
        other = SpringTokens(torch.ones(2, tiny_models.WIDTH), TokensMetadata(backbone="bart", fingerprint="other"))
        Seq2SeqModel(model, words, other)
        assert "were trained for bart, not for" in caplog.text
        with pytest.raises(TokensError, match="were trained for bart"):
            Seq2SeqModel(model, words, other, on_other_backbone="error")

    def test_a_decoder_without_a_start(self) -> None:
        model, words = build("t5")
        model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = words.bos_token = None
        with pytest.raises(BackboneError, match="names no decoder_start_token_id"):
            RagDecoder(Seq2SeqModel(model, words)).answer(QUESTION, PASSAGES)

    def test_a_passage_longer_than_the_encoder(self, caplog) -> None:
        rag = RagDecoder(Seq2SeqModel(*build("bart")))
        answer = rag.answer(QUESTION, [*PASSAGES, Passage("Lima " * 600, score=0.0)], max_new_tokens=2)
        assert answer.dropped_passages == 1
        assert "longer than the 512 tokens" in caplog.text
        strict = RagDecoder(Seq2SeqModel(*build("bart"), on_too_long="error"))
        with pytest.raises(PromptTooLongError, match="1 of 2 passages"):
            strict.answer(QUESTION, [PASSAGES[0], Passage("Lima " * 600, score=0.0)])
