"""Virtual tokens of an encoder-decoder: the loss and gradient of full back-propagation by hand, and a whole run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import decoding_kit as kit
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from spring_integrations import Passage, SpringTokens
from spring_integrations.cli import app
from spring_integrations.decoding import RagDecoder, Seq2SeqModel
from spring_integrations.errors import PromptTooLongError, SettingsError, TokensError
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone, load_backbone
from spring_integrations.training import Example, TrainConfig, train
from spring_integrations.training.methods import make_method
from spring_integrations.training.sampling import Asked, Drawn
from spring_integrations.training.seq2seq import Seq2SeqSpring
from spring_integrations.training.trainer import TrainingResult

EXAMPLES = (
    Example("capital of Peru", ("Lima",), ("Lima is the capital of Peru.", "The river flows to the sea.")),
    Example("who got the prize", ("Wilhelm Röntgen",), ("The prize was awarded to Röntgen in 1901.",)),
    Example("what is short", ("the answer",), ("The answer is short.", "The context is long.", "Lima is a name.")),
)
N = 6
CONFIG = TrainConfig(n=N, epochs=6, batch_size=3, learning_rate=0.05, logging_steps=1, num_passages=2, k_samples=3)
every_kind = pytest.mark.parametrize("kind", ["bart", "t5"])


def build(kind: str) -> Seq2SeqBackbone:
    words = kit.seq2seq_tokenizer(kind)
    return Seq2SeqBackbone((kit.bart if kind == "bart" else kit.t5)(len(words) + 5), words, kind)


def method(kind: str) -> Seq2SeqSpring:
    made = make_method(build(kind), CONFIG)
    assert isinstance(made, Seq2SeqSpring)
    return made


def drawn(example: Example) -> Drawn:
    prompt = RagPrompt.from_passages(example.passages, example.question)
    return Drawn(example.question, prompt, example.targets[0], (N,))


def by_hand(kind: str, table: torch.Tensor, k: int) -> torch.Tensor:
    """Returns the loss of each example alone: rows of an embedding sequence, no padding, no virtual ids."""
    shared = build(kind)
    model, words = shared.model.requires_grad_(False), shared.tokenizer
    embed = model.get_encoder().get_input_embeddings()
    scaled = table[:k] * getattr(embed, "embed_scale", 1.0)
    start = [model.config.decoder_start_token_id]
    total, count = torch.zeros(()), 0
    for example in EXAMPLES:
        prompt = drawn(example).prompt
        opening, end = words("").input_ids[:-1], words("").input_ids[-1:]
        before, after = (words(t, add_special_tokens=False).input_ids for t in (prompt.before, prompt.after))
        vectors = torch.cat([embed(torch.tensor(opening + before)), scaled, embed(torch.tensor(after + end))])[None]
        answer = words(example.targets[0]).input_ids
        given = torch.tensor([[*start, *answer[:-1]]])
        logits = model(inputs_embeds=vectors, decoder_input_ids=given).logits[0]
        total = total + F.cross_entropy(logits, torch.tensor(answer), reduction="sum")
        count += len(answer)
    return total / count


@every_kind
def test_objective_equals_full_back_propagation_by_hand(kind: str) -> None:
    made = method(kind)
    batch = [made.encode(drawn(example)) for example in EXAMPLES]
    assert len({e.prompt_length for e in batch}) > 1, "the batch is to be ragged"
    (table,) = made.parameters
    ks, items = (2, 5), sum(e.answer_length for e in batch)
    loss = made.loss(batch, ks, items)
    loss.backward()
    theirs = torch.nn.Parameter(table.detach().clone())
    expected = torch.stack([by_hand(kind, theirs, k) for k in ks]).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert table.grad is not None
    assert theirs.grad.norm() > 0
    assert (table.grad - theirs.grad).norm() <= 1e-4 * theirs.grad.norm()
    assert not table.grad[5:].any(), "tokens beyond k got a gradient"
    assert all(p is table or p.grad is None for p in made.backbone.model.parameters())


@every_kind
def test_answers_are_those_of_greedy_generation(kind: str) -> None:
    made = method(kind)
    asked = [Asked(e.question, drawn(e).prompt) for e in EXAMPLES]
    answers = made.answer(asked, 6)
    for one, answer in zip(asked, answers, strict=True):
        ids = torch.tensor([made.backbone.encode(one.prompt, made._ids)])
        new = made.backbone.model.generate(ids, max_new_tokens=6, num_beams=1, do_sample=False)
        assert made.backbone.tokenizer.decode(new[0], skip_special_tokens=True).strip() == answer
        assert made.answer([one], 6) == [answer], "neighbours in a batch change nothing"


def run(kind: str, folder: Path, **changes) -> tuple[TrainingResult, Seq2SeqBackbone]:
    shared = build(kind)
    config = TrainConfig(**{**vars(CONFIG), **changes})
    return train(shared, EXAMPLES, config, folder, validation=EXAMPLES[:2]), shared


@every_kind
def test_a_run_lowers_the_loss_and_its_tokens_load(kind: str, tmp_path: Path) -> None:
    far = {"max_new_tokens": 4, "method": "spring-fixed", "k_samples": 1, "epochs": 20, "learning_rate": 0.3}
    result, shared = run(kind, tmp_path, **far)
    losses = [entry["loss"] for entry in result.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5
    fresh = build(kind).model.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in shared.model.state_dict().items())
    tokens = SpringTokens.load(result.path)
    assert (len(tokens), tokens.metadata.training["encoder_decoder"]) == (N, True)
    model = Seq2SeqModel(build(kind), tokens=tokens, k=3)
    answer = RagDecoder(model, "rag-sequence").answer("capital of Peru", [Passage("Lima is the capital.", score=1.0)])
    assert answer.k == 3
    assert "Seq2SeqModel.from_pretrained" in (tmp_path / "README.md").read_text(encoding="utf-8")
    again, _ = run(kind, tmp_path / "again", **far)
    assert torch.equal(SpringTokens.load(again.path).embeddings, tokens.embeddings)


@every_kind
def test_the_command_takes_a_folder_of_an_encoder_decoder(kind: str, tmp_path: Path) -> None:
    shared = build(kind)
    shared.model.save_pretrained(tmp_path / "model")
    shared.tokenizer.save_pretrained(tmp_path / "model")
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(e.as_record()) + "\n" for e in EXAMPLES), encoding="utf-8")
    options = ["--model", tmp_path / "model", "--out", tmp_path / "out", "--n", 3, "--epochs", 1, "--top", 1]
    done = CliRunner().invoke(app, ["train", str(data), *map(str, options)])
    assert done.exit_code == 0, done.output
    assert "Seq2SeqModel.from_pretrained" in done.stdout.replace("\n", "")
    model = Seq2SeqModel.from_pretrained(str(tmp_path / "model"), tmp_path / "out")
    assert model.k == 3


def test_what_does_not_go_with_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    for changes, message in (
        ({"method": "lora", "k_samples": 1}, "method='lora' does not go with bart, an encoder-decoder; give 'spring'"),
        ({"layouts": ("chat",)}, "bart is an encoder-decoder, which has no chat layout"),
    ):
        with pytest.raises(SettingsError, match=message):
            run("bart", tmp_path, **changes)
    long = Example("long " * 600, ("a",), ("p",))
    with pytest.raises(PromptTooLongError, match="example 0: virtual tokens, passage and question take"):
        train(build("bart"), [long], CONFIG, tmp_path)
    with pytest.raises(PromptTooLongError, match="example 0: an answer takes"):
        train(build("bart"), [Example("q", ("long " * 600,), ("p",))], CONFIG, tmp_path)
    used = build("t5")
    used.attach(SpringTokens(torch.zeros(2, used.width)))
    with pytest.raises(TokensError, match="already carries virtual tokens"):
        train(used, EXAMPLES, CONFIG, tmp_path)


def test_a_model_is_loaded_as_what_it_is(llama_folder: Path, tmp_path: Path) -> None:
    assert type(load_backbone(str(llama_folder))) is Backbone
    shared = build("t5")
    shared.model.save_pretrained(tmp_path)
    shared.tokenizer.save_pretrained(tmp_path)
    assert type(load_backbone(str(tmp_path))) is Seq2SeqBackbone


@every_kind
def test_a_validation_that_the_decoder_has_no_room_for_is_refused_before_the_first_step(
    kind: str, tmp_path: Path
) -> None:
    backbone = build(kind)
    config = dataclasses.replace(CONFIG, max_new_tokens=backbone.window)
    with pytest.raises(SettingsError, match=f"max_new_tokens={backbone.window} is more than the"):
        train(backbone, EXAMPLES, config, tmp_path, validation=EXAMPLES)
    assert not list(tmp_path.glob("checkpoint-*"))
