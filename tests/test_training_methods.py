"""The baselines are what PEFT says they are, and train in the same loop as SPRING's tokens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny_models
import torch

from spring_integrations import RagPrompt, SpringModel, SpringTokens
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import Example, TrainConfig, load_trained, train
from spring_integrations.training.methods import make_method
from spring_integrations.training.objective import full_loss
from spring_integrations.training.sampling import TrainingSet
from spring_integrations.training.spring import initial_tokens

EXAMPLES = (
    Example("capital of Peru", ("Lima",), ("Lima is the capital of Peru.", "The river flows to the sea.")),
    Example("who got the prize", ("Röntgen",), ("The prize was awarded to Röntgen in 1901.",)),
)
METHODS = ("spring", "spring-fixed", "prompt", "prefix", "lora")
BASELINES = METHODS[2:]
RAG = RagPrompt.from_passages(EXAMPLES[0].passages, EXAMPLES[0].question)
CLOSED = RagPrompt.from_passages([], EXAMPLES[0].question)


def config(method: str, **changes) -> TrainConfig:
    return TrainConfig(**{"method": method, "n": 6, "epochs": 6, "batch_size": 2, "learning_rate": 0.05} | changes)


def tiny(family: str = "llama") -> Backbone:
    return Backbone(*tiny_models.build(family))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_saves_and_loads(method: str, family: str, tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build(family)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = {name: type(module) for name, module in model.named_modules()}
    # Many k a step: the loss of one step and of another then differ by what was learned, not by their k.
    samples = 12 if method == "spring" else 1
    settings = config(method, logging_steps=1, epochs=30, k_samples=samples)
    result = train(Backbone(model, tokenizer), EXAMPLES, settings, tmp_path / "out", validation=EXAMPLES)
    losses = [e["loss"] for e in result.log_history if "loss" in e]
    assert losses[-1] < losses[0]
    assert {name: type(module) for name, module in model.named_modules()} == modules, "the adapter stayed on"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loaded = load_trained(str(folder), tmp_path / "out")
    answers = [loaded.generate(RagPrompt.from_passages(e.passages, e.question), max_new_tokens=32)[0] for e in EXAMPLES]
    from spring_integrations.metrics import exact_match

    em = 100 * sum(exact_match(a.text, e.targets) for a, e in zip(answers, EXAMPLES, strict=True)) / len(EXAMPLES)
    assert em == result.metrics["em"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert ("load_trained(" in card) == (method in BASELINES)


@pytest.mark.parametrize("method", METHODS)
def test_only_spring_leaves_a_question_without_context_alone(method: str, tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    train(Backbone(model, tokenizer), EXAMPLES, config(method, epochs=20), tmp_path / "out")
    plain = SpringModel(*tiny_models.build("llama"))
    trained = load_trained(str(tmp_path / "model"), tmp_path / "out")
    before, after = (m.score(CLOSED, [" Lima"])[0] for m in (plain, trained))
    assert (before == after) == (method in ("spring", "spring-fixed"))
    assert trained.score(RAG, [" Lima"])[0] > plain.score(RAG, [" Lima"])[0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_prompt_tuning_is_our_tokens_in_front(family: str) -> None:
    """The same vectors through PEFT, and as virtual ids in our runtime: one loss, one gradient."""
    settings = config("prompt")
    drawn = [TrainingSet([e], settings)[0] for e in EXAMPLES]
    method = make_method(tiny(family), settings)
    examples = [method.encode(d) for d in drawn]
    items = sum(e.answer_length for e in examples)
    loss = method.loss(examples, (6,), items)
    loss.backward()
    ours = tiny(family)
    first = ours.attach(initial_tokens(ours, settings))
    embedding = ours.model.get_input_embeddings()
    table = torch.nn.Parameter(embedding.table)
    embedding.table = table
    ids = list(range(first, first + 6))
    in_front = [type(e)(ids + e.before, e.after, e.answer_length) for e in examples]
    expected = full_loss(ours, in_front)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    grad = method.parameters[0].grad
    assert (grad - table.grad).norm() <= 1e-4 * table.grad.norm()


@pytest.mark.parametrize("method", BASELINES)
def test_a_baseline_loss_does_not_depend_on_the_batch(method: str) -> None:
    made = make_method(tiny(), config(method))
    examples = [made.encode(TrainingSet([e], config(method))[0]) for e in EXAMPLES]
    items = sum(e.answer_length for e in examples)
    together = made.loss(examples, (6,), items)
    alone = sum(made.loss([e], (6,), items) for e in examples)
    assert together.item() == pytest.approx(alone.item(), abs=1e-5)


def test_adapters_in_front_leave_room_for_themselves() -> None:
    made = make_method(tiny(), config("prefix", n=50))
    passages = ["Lima is the capital of Peru. " * 4, "The river flows to the sea. " * 26]
    example = Example("q", ("a",), tuple(passages))
    fits_without = make_method(tiny(), config("lora")).encode(TrainingSet([example], config("lora", seed=3))[0])
    with_prefix = made.encode(TrainingSet([example], config("prefix", n=50, seed=3))[0])
    assert 462 < len(fits_without.before + fits_without.after) <= 512
    assert len(with_prefix.before + with_prefix.after) <= 462


def test_only_what_is_trained_has_gradients() -> None:
    for name in METHODS:
        backbone = tiny()
        weights = list(backbone.model.parameters())
        method = make_method(backbone, config(name))
        example = method.encode(TrainingSet(EXAMPLES, config(name))[0])
        method.loss([example], (3,), 1).backward()
        assert all(p.grad is None for p in weights)
        assert any(p.grad is not None and p.grad.any() for p in method.parameters), name


def test_adapter_files_name_their_backbone(tmp_path: Path) -> None:
    backbone = Backbone(*tiny_models.build("llama"), name="org/base")
    train(backbone, EXAMPLES, config("lora", epochs=1), tmp_path)
    text = (tmp_path / "adapter_config.json").read_text(encoding="utf-8")
    assert re.search(r'"base_model_name_or_path": "org/base"', text)
    sizes = [f.stat().st_size for f in tmp_path.glob("**/*.safetensors")]
    assert max(sizes) < 150_000, "an adapter was saved with a copy of the backbone"


def test_a_prompt_tuning_adapter_is_a_tokens_file_too(tmp_path: Path) -> None:
    train(tiny(), EXAMPLES, config("prompt", epochs=1), tmp_path)
    assert len(SpringTokens.load(tmp_path)) == 6
