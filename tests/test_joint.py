"""Joint training: the objective, what it moves and what it leaves alone, its runs and its errors."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import chromadb
import joint_kit
import pytest
import tiny_models
import torch
from joint_kit import run
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    DPRConfig,
    DPRQuestionEncoder,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from typer.testing import CliRunner

import spring_integrations
from spring_integrations import RagPrompt, SpringModel, SpringTokens
from spring_integrations.cli.train_joint import app
from spring_integrations.decoding import RagDecoder, Seq2SeqModel
from spring_integrations.errors import DataError, PromptTooLongError, SettingsError, TrainingError
from spring_integrations.retrieval import BM25Index
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.training import Example, TrainingResult
from spring_integrations.training.joint import (
    ChromaVectors,
    DenseRetriever,
    JointConfig,
    VectorIndex,
    query_encoder,
    train_joint,
)
from spring_integrations.training.joint.encoders import trainable
from spring_integrations.training.joint.generators import make_generator
from spring_integrations.training.joint.method import Joint
from spring_integrations.training.sampling import Drawn

WIDTH = joint_kit.WIDTH
CONFIG = joint_kit.CONFIG
EXAMPLES = joint_kit.EXAMPLES
PASSAGES = (
    "Lima is the capital of Peru.",
    "The river flows to the sea, and a long way from its source it meets another river.",
    "The prize was awarded to Röntgen in 1901.",
    "A name is short.",
)
QUESTIONS = (
    Example("capital of Peru", ("Lima",), ()),
    Example("who got the first prize", ("Wilhelm Conrad Röntgen",), ()),
)


@pytest.fixture
def encoder(tmp_path: Path) -> SentenceTransformer:
    return joint_kit.encoder(tmp_path / "bert")


def table(result: TrainingResult) -> Tensor:
    return SpringTokens.load(result.path).embeddings


def losses(result: TrainingResult) -> list[float]:
    return [entry["loss"] for entry in result.log_history if "loss" in entry]


# ---- the objective ----


def small_index(similarity: str = "ip") -> VectorIndex:
    vectors = torch.randn(len(PASSAGES), WIDTH, generator=torch.Generator().manual_seed(2))
    return VectorIndex(PASSAGES, vectors, similarity)


def joint(backbone: Backbone, encoder: SentenceTransformer, index: VectorIndex, config: JointConfig) -> Joint:
    retriever = DenseRetriever(query_encoder(encoder), index)
    return Joint(make_generator(backbone, config), retriever, trainable(retriever.encoder), config)


def joint_loss(method: Joint, *ks: int) -> Tensor:
    """Returns our loss, summed over the questions."""
    visits = [Drawn(e.question, RagPrompt.from_passages([], e.question), e.targets[0], ks) for e in QUESTIONS]
    return method.loss([method.encode(visit) for visit in visits], ks, 1)


def answer_log_probs(backbone: Backbone, tokens: Tensor, passage: str, example: Example) -> Tensor:
    """Returns log p of each answer token by one plain forward pass over embeddings, with gradient everywhere."""
    prompt = RagPrompt.from_passages([passage], example.question)
    marker = range(10**6, 10**6 + 1)
    ids = backbone.encode(prompt, marker)
    longer = RagPrompt(prompt.before, f"{prompt.after} {example.targets[0]}")
    whole = [*backbone.encode(longer, marker), backbone.eos_ids[0]]
    at = ids.index(marker[0])
    embed = backbone.model.get_input_embeddings()
    before, after = embed(torch.tensor(whole[:at])), embed(torch.tensor(whole[at + 1 :]))
    scale = getattr(embed, "embed_scale", 1.0)
    logits = backbone.model(inputs_embeds=torch.cat([before, tokens * scale, after])[None]).logits[0]
    count = len(whole) - len(ids)
    answer = torch.tensor(whole[len(ids) :])
    return logits[-count - 1 : -1].log_softmax(-1).gather(1, answer[:, None])[:, 0]


def score(similarity: str, query: Tensor, vector: Tensor) -> Tensor:
    if similarity == "cosine":
        return query @ vector / (query.norm() * vector.norm())
    return query @ vector if similarity == "ip" else -(query - vector).square().sum()


def brute_force(
    backbone: Backbone, tokens: Tensor, encoder: SentenceTransformer, index: VectorIndex, config: JointConfig
) -> Tensor:
    """Returns -log Σ_z p(z|x) p(y|x,z) as the paper writes it, one question and passage at a time, in probabilities."""
    total = torch.zeros(())
    for example in QUESTIONS:
        features = encoder.preprocess([example.question])
        query = encoder(features)["sentence_embedding"][0]
        scores = [score(index.similarity, query, vector) for vector in index.vectors.double()]
        best = sorted(range(len(PASSAGES)), key=lambda z: -scores[z].item())[: config.num_passages]
        weights = torch.stack([scores[z] for z in best]).div(config.temperature_for(index.similarity)).exp()
        prior = weights / weights.sum()
        tokenwise = torch.stack([answer_log_probs(backbone, tokens, PASSAGES[z], example) for z in best]).exp()
        if config.marginal == "rag-sequence":
            total = total - (prior * tokenwise.prod(1)).sum().log()
        else:
            total = total - (prior[:, None] * tokenwise).sum(0).prod().log()
    return total


@pytest.mark.parametrize("marginal", ["rag-sequence", "rag-token"])
@pytest.mark.parametrize(
    ("family", "similarity"), [("llama", "ip"), ("gpt2", "cosine"), ("qwen2", "l2"), ("mamba", "ip")]
)
def test_loss_and_gradients_equal_the_papers_formula(
    family: str, similarity: str, marginal: str, encoder: SentenceTransformer
) -> None:
    config = dataclasses.replace(CONFIG, marginal=marginal)
    backbone = Backbone(*tiny_models.build(family))
    method = joint(backbone, encoder, small_index(similarity), config)
    loss = joint_loss(method, 3)
    loss.backward()
    grads = [p.grad for p in method.parameters]
    method.detach()
    # Probabilities of whole answers under a random model need float64.
    backbone.model.double()
    encoder.double()
    tokens = nn.Parameter(method.parameters[0].detach().double())
    expected = brute_force(backbone, tokens[:3], encoder, small_index(similarity), config)
    wanted = torch.autograd.grad(expected, [tokens, *[p for p in encoder.parameters() if p.grad is not None]])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(grads) == len(wanted) > 10
    for ours, theirs in zip(grads, wanted, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6
    assert wanted[0].norm() > 1e-3
    assert not grads[0][3:].any(), "tokens beyond k got a gradient"


@pytest.mark.parametrize("marginal", ["rag-sequence", "rag-token"])
def test_loss_is_what_the_decoder_reports(marginal: str, encoder: SentenceTransformer) -> None:
    config = dataclasses.replace(CONFIG, marginal=marginal)
    method = joint(Backbone(*tiny_models.build("llama")), encoder, small_index(), config)
    loss = joint_loss(method, CONFIG.n).item()
    tokens = SpringTokens(method.parameters[0])
    decoder = RagDecoder(SpringModel(*tiny_models.build("llama"), tokens), marginal)
    retriever = DenseRetriever(query_encoder(encoder), small_index())
    reported = [
        decoder.log_likelihood(e.question, retriever.search(e.question, 3), [f" {e.targets[0]}"], add_eos=True)[0]
        for e in QUESTIONS
    ]
    assert -sum(reported) == pytest.approx(loss, rel=1e-5)


def test_several_k_are_averaged(encoder: SentenceTransformer) -> None:
    method = joint(Backbone(*tiny_models.build("llama")), encoder, small_index(), CONFIG)
    alone = [joint_loss(method, k).item() for k in (1, 4)]
    assert joint_loss(method, 1, 4).item() == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_contexts_run_once_for_all_passages_and_without_gradient(encoder: SentenceTransformer) -> None:
    backbone = Backbone(*tiny_models.build("llama"))
    method = joint(backbone, encoder, small_index(), CONFIG)
    seen = []
    hook = backbone.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append((len(inputs[0]), output.requires_grad))
    )
    joint_loss(method, 2).backward()
    hook.remove()
    rows = len(QUESTIONS) * CONFIG.num_passages
    assert seen == [(rows, False), (rows, True)]


def test_a_long_passage_is_cut_and_the_question_is_not(
    encoder: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    long = VectorIndex(["The river flows to the sea. " * 200, *PASSAGES[1:]], small_index().vectors, "ip")
    backbone, config = Backbone(*tiny_models.build("llama")), dataclasses.replace(CONFIG, num_passages=4)
    method = joint(backbone, encoder, long, config)
    lengths = []
    backbone.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    joint_loss(method, 4)
    assert "cut" in caplog.text
    assert 0.6 * tiny_models.POSITIONS < sum(lengths) <= tiny_models.POSITIONS
    lengths.clear()
    assert len(method.answer([Drawn(QUESTIONS[0].question, RagPrompt("", "", None), "", (4,))], 3)) == 1
    assert 0.6 * tiny_models.POSITIONS < lengths[0] <= tiny_models.POSITIONS - 3


# ---- what training does ----


def recall(encoder: SentenceTransformer, examples: Sequence[Example]) -> float:
    """Returns how often the passage of the question's city is found first."""
    retriever = DenseRetriever(query_encoder(encoder), joint_kit.index())
    found = retriever.search_many([e.question for e in examples], 1)
    return sum(f[0].id in e.question.split() for f, e in zip(found, examples, strict=True)) / len(examples)


def test_answers_alone_teach_the_query_encoder_which_passage_is_right(
    encoder: SentenceTransformer, tmp_path: Path
) -> None:
    examples, held_out = joint_kit.questions(*joint_kit.ASKING), joint_kit.questions(joint_kit.HELD_OUT)
    before = [recall(encoder, examples), recall(encoder, held_out)]
    config = JointConfig(
        n=4, num_passages=8, epochs=60, batch_size=16, learning_rate=1e-3, encoder_learning_rate=3e-3,
        temperature=0.2, save_steps=10_000,
    )  # fmt: skip
    backbone = Backbone(*joint_kit.reader())
    result = train_joint(backbone, encoder, joint_kit.index(), examples, config, tmp_path / "out")
    trained = SentenceTransformer(str(tmp_path / "out" / "query_encoder"), device="cpu")
    assert max(before) < 0.2
    assert recall(trained, examples) > 0.8
    assert recall(trained, held_out) > 0.6
    assert losses(result)[-1] < losses(result)[0] / 2


def test_backbone_and_passage_vectors_stay_as_they_are(encoder: SentenceTransformer, tmp_path: Path) -> None:
    model, tokenizer = joint_kit.reader()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    embedding, index = model.get_input_embeddings(), joint_kit.index()
    vectors = index.vectors.clone()
    start = [p.clone() for p in encoder.parameters()]
    result = train_joint(Backbone(model, tokenizer), encoder, index, EXAMPLES, CONFIG, tmp_path / "out")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.get_input_embeddings() is embedding
    assert torch.equal(index.vectors, vectors)
    assert not index.vectors.requires_grad
    assert any(not torch.equal(p, before) for p, before in zip(encoder.parameters(), start, strict=True))
    assert len(table(result)) == CONFIG.n


def test_result_loads_in_one_line_each_and_says_how_it_was_made(encoder: SentenceTransformer, tmp_path: Path) -> None:
    query_encoder(encoder, prompt="what ")
    result = train_joint(
        Backbone(*joint_kit.reader()), encoder, joint_kit.index(), EXAMPLES, CONFIG, tmp_path / "out",
        validation=EXAMPLES[:3],
    )  # fmt: skip
    tokens = SpringTokens.load(tmp_path / "out")
    loaded = SentenceTransformer(str(tmp_path / "out" / "query_encoder"), device="cpu")
    question = ["code of lima"]
    assert torch.equal(torch.tensor(loaded.encode_query(question)), torch.tensor(encoder.encode_query(question)))
    assert not torch.equal(torch.tensor(loaded.encode_query(question)), torch.tensor(loaded.encode(question)))
    facts = tokens.metadata.training
    assert facts["index"] == {**joint_kit.index().facts(), "temperature": 0.05}
    assert (facts["marginal"], facts["num_passages"]) == ("rag-sequence", 3)
    assert set(result.metrics) == {"loss", "em", "f1", "contains", "best_step"}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in ("## Query encoder", "out/query_encoder", "index of 16 (cosine", "| encoder_learning_rate | 0.001 |"):
        assert part in card


def test_validation_answers_from_what_the_encoder_retrieves_and_keeps_the_best(tmp_path: Path) -> None:
    encoder = joint_kit.encoder(tmp_path / "bert")
    examples = joint_kit.questions(joint_kit.ASKING[0])
    config = dataclasses.replace(
        CONFIG, epochs=40, batch_size=16, num_passages=8, encoder_learning_rate=5e-3, save_steps=5, temperature=0.2
    )
    backbone = Backbone(*joint_kit.reader())
    result = train_joint(backbone, encoder, joint_kit.index(), examples, config, tmp_path / "out", validation=examples)
    measured = [(e["step"], e["eval_f1"]) for e in result.log_history if "eval_f1" in e]
    assert [step for step, _ in measured] == list(range(5, 41, 5))
    assert result.metrics["f1"] == round(max(f1 for _, f1 in measured), 2) > measured[0][1]
    trained = SentenceTransformer(str(tmp_path / "out" / "query_encoder"), device="cpu")
    retriever = DenseRetriever(query_encoder(trained), joint_kit.index())
    decoder = RagDecoder(
        SpringModel(*joint_kit.reader(), SpringTokens.load(tmp_path / "out")), "rag-sequence", score_temperature=0.2
    )
    answers = [decoder.answer(e.question, retriever.search(e.question, 8), max_new_tokens=3).text for e in examples]
    right = sum(answer.strip() == e.targets[0] for answer, e in zip(answers, examples, strict=True))
    assert 100 * right / len(examples) == pytest.approx(result.metrics["em"], abs=0.01)


# ---- runs ----


def cut_after(whole: Path, cut: Path, step: int) -> None:
    """Leaves what a run killed after a step's checkpoint leaves."""
    shutil.copytree(whole, cut)
    for checkpoint in cut.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)
    (cut / "spring_tokens.safetensors").unlink()
    shutil.rmtree(cut / "query_encoder")


def encoder_weights(folder: Path) -> list[Tensor]:
    return list(SentenceTransformer(str(folder / "query_encoder"), device="cpu").parameters())


@pytest.mark.parametrize("changes", [{}, {"marginal": "rag-token", "micro_batch_size": 1, "precision": "bf16"}])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, changes: dict) -> None:
    whole = run(tmp_path / "whole", **changes)
    cut_after(tmp_path / "whole", tmp_path / "cut", 2)
    resumed = run(tmp_path / "cut", **changes)
    assert losses(resumed) == losses(whole)
    assert torch.equal(table(resumed), table(whole))
    assert all(map(torch.equal, encoder_weights(tmp_path / "cut"), encoder_weights(tmp_path / "whole")))


def test_micro_batches_add_up_to_the_batch(tmp_path: Path) -> None:
    whole, parts = run(tmp_path / "whole"), run(tmp_path / "parts", micro_batch_size=1)
    assert torch.allclose(table(parts), table(whole), atol=1e-4)
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)


def test_a_folder_with_a_finished_run_refuses_other_settings(tmp_path: Path) -> None:
    run(tmp_path / "out")
    with pytest.raises(SettingsError, match="marginal: 'rag-sequence' -> 'rag-token'"):
        run(tmp_path / "out", marginal="rag-token")
    backbone, other = Backbone(*joint_kit.reader()), joint_kit.encoder(tmp_path / "other")
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(SettingsError, match="query_encoder: "):
        train_joint(backbone, other, joint_kit.index(), EXAMPLES, CONFIG, tmp_path / "out")
    vectors = joint_kit.index().vectors * 2
    index = VectorIndex(joint_kit.corpus(), vectors, "cosine")
    with pytest.raises(SettingsError, match="index: "):
        train_joint(backbone, joint_kit.encoder(tmp_path / "e"), index, EXAMPLES, CONFIG, tmp_path / "out")


def test_a_killed_process_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", epochs=30, save_steps=5)
    script = (
        "import sys, pathlib, torch; torch.set_num_threads(1); import joint_kit;"
        "joint_kit.run(pathlib.Path(sys.argv[1]), epochs=30, save_steps=5)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(spring_integrations.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "cut")],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list((tmp_path / "cut").glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "spring_tokens.safetensors").exists()
    resumed = run(tmp_path / "cut", epochs=30, save_steps=5)
    assert losses(resumed) == losses(whole)
    assert torch.equal(table(resumed), table(whole))


# ---- indexes and encoders ----


@pytest.mark.parametrize("similarity", ["ip", "cosine", "l2"])
def test_a_chroma_collection_gives_what_the_index_in_memory_gives(similarity: str) -> None:
    index = VectorIndex(joint_kit.corpus(), joint_kit.index().vectors, similarity)
    settings = {"hnsw": {"space": similarity}}
    collection = chromadb.EphemeralClient().create_collection("joint", configuration=settings)
    collection.upsert(
        ids=[p.id for p in index.passages],
        embeddings=index.vectors.numpy(),
        documents=[p.text for p in index.passages],
        metadatas=[{"title": "Codes", "passage_id": p.id, "source": "a.txt"} for p in index.passages],
    )
    chroma = ChromaVectors(collection)
    assert (len(chroma), chroma.dimension, chroma.similarity) == (16, WIDTH, similarity)
    queries = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(3))
    (ours, vectors), (theirs, their_vectors) = (i.search_vectors(queries, 4) for i in (index, chroma))
    assert [[p.text for p in row] for row in theirs] == [[p.text for p in row] for row in ours]
    assert theirs[0][0] == dataclasses.replace(ours[0][0], title="Codes", metadata={"source": "a.txt"})
    assert torch.allclose(vectors, their_vectors, atol=1e-6)


def test_training_over_a_chroma_collection_moves_the_encoder(encoder: SentenceTransformer, tmp_path: Path) -> None:
    collection = chromadb.EphemeralClient().create_collection("joint", configuration={"hnsw": {"space": "cosine"}})
    index = joint_kit.index()
    collection.upsert(
        ids=[p.id for p in index.passages],
        embeddings=index.vectors.numpy(),
        documents=[p.text for p in index.passages],
    )
    backbone = Backbone(*joint_kit.reader())
    result = train_joint(backbone, encoder, ChromaVectors(collection), EXAMPLES, CONFIG, tmp_path / "chroma")
    assert losses(result) == pytest.approx(losses(run(tmp_path / "memory")), abs=1e-4)


@pytest.mark.parametrize("similarity", ["ip", "cosine", "l2"])
def test_the_retriever_ranks_by_the_scores_it_gives(similarity: str, encoder: SentenceTransformer) -> None:
    retriever = DenseRetriever(query_encoder(encoder), small_index(similarity))
    (found,) = retriever.search_many(["capital of Peru"], 10)
    assert {p.text for p in found} == set(PASSAGES), "all are returned where there are fewer than asked for"
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    query = torch.tensor(encoder.encode_query("capital of Peru"))
    wanted = score(similarity, query, small_index().vectors[PASSAGES.index(found[0].text)])
    assert found[0].score == pytest.approx(wanted.item(), rel=1e-4)
    assert retriever.search_many([]) == []


def test_a_dpr_question_encoder_trains_and_loads(tmp_path: Path) -> None:
    tokenizer = joint_kit.words()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = DPRQuestionEncoder(DPRConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes))
    start = [p.clone() for p in model.parameters()]
    index = VectorIndex(joint_kit.corpus(), joint_kit.index().vectors, "ip")
    backbone = Backbone(*joint_kit.reader())
    train_joint(backbone, query_encoder(model, tokenizer), index, EXAMPLES, CONFIG, tmp_path / "out")
    loaded = DPRQuestionEncoder.from_pretrained(tmp_path / "out" / "query_encoder")
    assert any(not torch.equal(p, before) for p, before in zip(loaded.parameters(), start, strict=True))
    inputs = tokenizer(["what is the code of lima"], return_tensors="pt")
    assert torch.equal(loaded(**inputs).pooler_output, model.eval()(**inputs).pooler_output)


class Bag(nn.Module):
    """The smallest query encoder: a vector for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = joint_kit.words()
        self.table = nn.EmbeddingBag(len(self.words), WIDTH)

    def forward(self, questions: Sequence[str]) -> Tensor:
        return torch.cat([self.table(torch.tensor([self.words(q).input_ids])) for q in questions])

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        torch.save(self.state_dict(), folder / "bag.pt")


def test_any_module_that_maps_texts_to_vectors_is_an_encoder(tmp_path: Path) -> None:
    bag = Bag()
    start = bag.table.weight.detach().clone()
    train_joint(Backbone(*joint_kit.reader()), bag, joint_kit.index(), EXAMPLES, CONFIG, tmp_path / "out")
    saved = torch.load(tmp_path / "out" / "query_encoder" / "bag.pt", weights_only=True)
    assert torch.equal(saved["table.weight"], bag.table.weight)
    assert not torch.equal(bag.table.weight, start)


# ---- encoder-decoders ----


def seq2seq(kind: str) -> PreTrainedModel:
    words = len(joint_kit.words())
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "t5":
            sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
            return T5ForConditionalGeneration(T5Config(vocab_size=words, decoder_start_token_id=0, **sizes, **ids))
        layers = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in
                  (("layers", 1), ("attention_heads", 4), ("ffn_dim", 64))}  # fmt: skip
        return BartForConditionalGeneration(
            BartConfig(
                vocab_size=words, d_model=WIDTH, max_position_embeddings=64, init_std=0.2,
                decoder_start_token_id=3, forced_bos_token_id=2, **layers, **ids,
            )
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["bart", "t5"])
@pytest.mark.parametrize("marginal", ["rag-sequence", "rag-token"])
def test_a_whole_encoder_decoder_gets_the_gradients_of_the_papers_formula(
    kind: str, marginal: str, encoder: SentenceTransformer
) -> None:
    config = dataclasses.replace(CONFIG, method="full", marginal=marginal)
    model, tokenizer = seq2seq(kind), joint_kit.words()
    method = joint(Seq2SeqBackbone(model, tokenizer), encoder, small_index("cosine"), config)
    loss = joint_loss(method, CONFIG.n)
    grads = torch.autograd.grad(loss, method.parameters)
    decoder = RagDecoder(Seq2SeqModel(model, tokenizer), marginal, score_temperature=0.05)
    retriever = DenseRetriever(query_encoder(encoder), small_index("cosine"))
    reported = [
        decoder.log_likelihood(e.question, retriever.search(e.question, 3), [e.targets[0]], add_eos=True)[0]
        for e in QUESTIONS
    ]
    assert -sum(reported) == pytest.approx(loss.item(), rel=1e-5)
    # A step against the gradient lowers the loss by what the gradient says.
    norm = sum(g.square().sum() for g in grads)
    step = 1e-4 / norm.sqrt()
    with torch.no_grad():
        for parameter, grad in zip(method.parameters, grads, strict=True):
            parameter.sub_(step * grad)
        lower = joint_loss(method, CONFIG.n)
    assert (loss - lower).item() == pytest.approx((step * norm).item(), rel=0.05)


def test_a_whole_encoder_decoder_trains_saves_and_loads(encoder: SentenceTransformer, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, method="full", epochs=4)
    backbone = Seq2SeqBackbone(seq2seq("bart"), joint_kit.words())
    out = tmp_path / "out"
    result = train_joint(backbone, encoder, joint_kit.index(), EXAMPLES, config, out, validation=EXAMPLES[:2])
    assert losses(result)[-1] < losses(result)[0]
    loaded = AutoModelForSeq2SeqLM.from_pretrained(out)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), backbone.model.parameters(), strict=True))
    assert Seq2SeqModel.from_pretrained(str(out)).frozen.tokenizer.get_vocab() == joint_kit.words().get_vocab()
    assert encoder_weights(out)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Seq2SeqModel.from_pretrained('out')" in card
    assert "frozen" not in card


# ---- what is refused ----


def attempt(tmp_path: Path, *, encoder=None, index=None, examples=EXAMPLES, backbone=None, **changes) -> None:
    train_joint(
        backbone or Backbone(*joint_kit.reader()),
        encoder or joint_kit.encoder(tmp_path / "bert"),
        joint_kit.index() if index is None else index,
        examples,
        dataclasses.replace(CONFIG, **changes),
        tmp_path / "out",
    )


def test_parts_that_do_not_fit_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BM25Index gives no vectors"):
        attempt(tmp_path, index=BM25Index.build(joint_kit.corpus()))
    with pytest.raises(SettingsError, match="vectors of width 32, the index has 16"):
        attempt(tmp_path, index=joint_kit.index(width=16))
    with pytest.raises(SettingsError, match="num_passages=17 passages a question, but the index holds 16"):
        attempt(tmp_path, num_passages=17)
    with pytest.raises(DataError, match="no training examples"):
        attempt(tmp_path, examples=[])
    with pytest.raises(SettingsError, match=r"method='full' does not go with .*'spring' or 'spring-fixed'"):
        attempt(tmp_path, method="full")
    with pytest.raises(SettingsError, match=r"method='spring' does not go with .*'full' for an encoder-decoder"):
        attempt(tmp_path, backbone=Seq2SeqBackbone(seq2seq("t5"), joint_kit.words()))
    with pytest.raises(PromptTooLongError, match=r"example 8: .*of 64 positions"):
        attempt(tmp_path, examples=[*EXAMPLES, Example("which code " * 40, ("ash",), ())])
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_encoders_that_cannot_be_trained_are_refused(encoder: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Linear is not a query encoder"):
        attempt(tmp_path, encoder=nn.Linear(2, 2))
    with pytest.raises(SettingsError, match=r"the query encoder is in torch\.bfloat16: load it in float32"):
        attempt(tmp_path, encoder=joint_kit.encoder(tmp_path / "half").bfloat16())
    backbone = Backbone(*joint_kit.reader())
    with pytest.raises(SettingsError, match="no parameter with a gradient"):
        attempt(tmp_path, encoder=encoder.requires_grad_(False), backbone=backbone)
    assert type(backbone.model.get_input_embeddings()) is nn.Embedding, "virtual tokens were left on the backbone"


def test_vectors_that_are_no_vectors_are_refused() -> None:
    with pytest.raises(DataError, match="the index holds no passages"):
        VectorIndex([], torch.zeros(0, 4), "ip")
    with pytest.raises(DataError, match=r"2 passages need vectors \[2, d\], got \[3, 4\]"):
        VectorIndex(["a", "b"], torch.zeros(3, 4), "ip")
    with pytest.raises(DataError, match=r"1 of 2 passages contain NaN or Inf \(passage 1 first\)"):
        VectorIndex(["a", "b"], [[0.0, 1.0], [float("nan"), 0.0]], "ip")
    with pytest.raises(SettingsError, match="similarity='dot' is not one of 'ip', 'cosine', 'l2'"):
        VectorIndex(["a"], torch.ones(1, 4), "dot")
    empty = chromadb.EphemeralClient().create_collection("empty")
    with pytest.raises(DataError, match="'empty' holds no vectors"):
        ChromaVectors(empty)


def test_numbers_that_are_none_stop_the_run(encoder: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the query encoder gives NaN or Inf; lower encoder_learning_rate"):
        attempt(tmp_path, encoder=encoder, encoder_learning_rate=1e30)
    model, tokenizer = joint_kit.reader()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1; lower learning_rate"):
        attempt(tmp_path / "loss", backbone=Backbone(model, tokenizer))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"marginal": "rag"}, "marginal='rag' is not one of 'rag-sequence', 'rag-token'"),
        ({"method": "lora"}, "method='lora' is not one of 'spring', 'spring-fixed', 'full'"),
        ({"num_passages": -1}, "num_passages must be at least 1, got -1"),
        ({"temperature": 0.0}, "temperature must be above 0 and finite, got 0.0"),
        ({"encoder_learning_rate": float("nan")}, "encoder_learning_rate must be above 0 and finite, got nan"),
        ({"method": "full", "shard_backbone": True}, "splits a frozen backbone"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        JointConfig(**changes)


# ---- the command ----


def test_the_command_trains_from_documents_and_questions(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for city, code in zip(joint_kit.CITIES, joint_kit.CODES, strict=True):
        (docs / f"{city}.txt").write_text(f"The code of {city} is {code} .", encoding="utf-8")
    data = tmp_path / "train.jsonl"
    records = [{"question": e.question, "target": list(e.targets)} for e in EXAMPLES]
    data.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    model, tokenizer = joint_kit.reader()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    encoder = joint_kit.encoder(tmp_path / "bert")
    encoder.prompts = {"query": "which ", "document": "the "}
    encoder.save(str(tmp_path / "encoder"))
    options = ["--docs", docs, "--model", tmp_path / "model", "--embedder", tmp_path / "encoder", "--n", 4]
    options += ["--out", tmp_path / "out", "--epochs", 1, "--top", 3, "--validation", data]
    done = CliRunner().invoke(app, ["train-joint", str(data), *map(str, options)])
    assert done.exit_code == 0, done.stderr
    assert "spring_tokens.safetensors" in done.stdout
    assert "f1" in done.stdout
    loaded = SentenceTransformer(str(tmp_path / "out" / "query_encoder"), device="cpu")
    assert loaded.prompts["query"] == "which "
    assert len(SpringTokens.load(tmp_path / "out")) == 4
    failed = CliRunner().invoke(app, ["train-joint", str(data), *map(str, options), "--top", "99"])
    assert failed.exit_code == 2
    assert "the index holds 16; lower it" in failed.stderr.replace("\n", " ")
