"""Training runs: resume, processes, memory, validation, and what they leave behind."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tiny_models
import torch
from PIL import Image
from transformers import PreTrainedModel
from typer.testing import CliRunner

import spring_integrations
from spring_integrations import RagPrompt, SpringModel, SpringTokens
from spring_integrations.cli import app
from spring_integrations.errors import (
    DataError,
    PromptTooLongError,
    SettingsError,
    StorageError,
    TokensError,
    TrainingError,
)
from spring_integrations.langchain import SpringHFLLM
from spring_integrations.metrics import METRICS
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import Example, ExampleFiles, TrainConfig, TrainingResult, train
from spring_integrations.training.run_folder import last_whole_checkpoint
from spring_integrations.training.spring import initial_tokens
from spring_integrations.training.validation import SCORES

EXAMPLES = (
    Example("capital of Peru", ("Lima",), ("Lima is the capital of Peru.", "The river flows to the sea.")),
    Example("who got the prize", ("Röntgen",), ("The prize was awarded to Röntgen in 1901.",)),
    Example("what is short", ("the answer",), ("The answer is short.", "The context is long.", "Lima is a name.")),
    Example("where is the river", ("Peru",), ("The river is in Peru.", "A name is short.")),
)
CONFIG = TrainConfig(n=6, epochs=4, batch_size=2, learning_rate=0.05, save_steps=2, logging_steps=1, num_passages=2)

# Where losses of two steps are compared: they then differ by what was learned, not by their k.
MANY_K = dataclasses.replace(CONFIG, k_samples=12, epochs=10)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A training file, and a folder with a model."""
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(e.as_record()) + "\n" for e in EXAMPLES), encoding="utf-8")
    model, tokenizer = tiny_models.build("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return data, tmp_path / "model"


def run(folder: Path, examples: Sequence[Example] = EXAMPLES, family: str = "llama", **changes) -> TrainingResult:
    config = dataclasses.replace(CONFIG, **changes)
    return train(Backbone(*tiny_models.build(family)), examples, config, folder)


def table(result: TrainingResult) -> torch.Tensor:
    return SpringTokens.load(result.path).embeddings


def losses(result: TrainingResult) -> list[float]:
    return [entry["loss"] for entry in result.log_history if "loss" in entry]


def command(data: Path, model: Path, out: Path, *options: object) -> list[str]:
    fixed = ["--n", 6, "--epochs", 4, "--learning-rate", 0.05, "--logging-steps", 1, "--top", 2]
    return ["train", *map(str, [data, "--model", model, "--out", out, "--batch-size", 2, *fixed, *options])]


def environment() -> dict[str, str]:
    root = str(Path(spring_integrations.__file__).parents[1])
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "PYTHONUTF8": "1"}


def spring_rag(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "spring_integrations.cli", *map(str, arguments)]
    return subprocess.run(
        whole, capture_output=True, encoding="utf-8", env=environment(), check=False, timeout=300, **options
    )


def trained(data: Path, model: Path, out: Path, *options: object) -> str:
    """Runs `spring-rag train` in this process, and returns what it prints."""
    done = CliRunner().invoke(app, command(data, model, out, *options), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_training_lowers_the_loss_and_touches_only_tokens(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    embedding = model.get_input_embeddings()
    result = train(Backbone(model, tokenizer), EXAMPLES, MANY_K, tmp_path)
    assert model.get_input_embeddings() is embedding
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    prompt = RagPrompt.from_passages(EXAMPLES[0].passages, EXAMPLES[0].question)
    start = initial_tokens(Backbone(*tiny_models.build("llama")), CONFIG)
    trained = SpringTokens.load(result.path)
    scores = [SpringModel(*tiny_models.build("llama"), t).score(prompt, [" Lima"])[0] for t in (start, trained)]
    assert scores[1] > scores[0]
    assert losses(result)[-1] < losses(result)[0]


def test_result_says_how_it_was_made(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = files
    backbone = Backbone.load(str(model))
    examples = ExampleFiles([data], weights=[2], cache_dir=tmp_path / "cache")
    result = train(backbone, examples, CONFIG, tmp_path / "out", validation=EXAMPLES[:2])
    facts = SpringTokens.load(tmp_path / "out").metadata
    assert (facts.backbone, facts.template) == (str(model), "official")
    assert facts.fingerprint
    assert facts.training["epochs"] == CONFIG.epochs
    assert facts.training["spring_integrations"] == spring_integrations.__version__
    assert facts.training["metrics"] == result.metrics
    assert set(result.metrics) == {"loss", *SCORES, "best_step", *(f"plain_{name}" for name in SCORES)}
    (file,) = facts.training["data"]
    assert file == dataclasses.asdict(examples.facts[0])
    assert (file["name"], file["examples"], len(file["sha256"])) == ("train.jsonl", 4, 64)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in (file["sha256"], "| learning_rate | 0.05 |", "loss.png", str(model), "SpringHFLLM("):
        assert part in card
    assert Image.open(tmp_path / "out" / "loss.png").size[0] > 500
    assert list((tmp_path / "out").glob("runs/**/events.out.tfevents.*")), "no TensorBoard log"


def test_tokens_load_straight_away(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = files
    done = spring_rag(*command(data, model, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "spring_tokens.safetensors" in done.stdout
    llm = SpringHFLLM(str(model), str(tmp_path / "out"), k=3, max_new_tokens=4)
    prompt = "[1] Lima is the capital of Peru.\n\nQuestion: capital of Peru\nAnswer:"
    info = llm.generate([prompt]).generations[0][0].generation_info
    assert info["k"] == 3


@pytest.mark.parametrize("changes", [{}, {"micro_batch_size": 1}, {"k_samples": 2}, {"layouts": ("langchain", "chat")}])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, changes: dict) -> None:
    whole = run(tmp_path / "whole", **changes)
    cut_after(tmp_path / "whole", tmp_path / "cut", 6)
    resumed = run(tmp_path / "cut", **changes)
    assert torch.equal(table(resumed), table(whole))
    assert losses(resumed) == losses(whole)


def cut_after(whole: Path, cut: Path, step: int) -> None:
    """Leaves what a run killed after a step's checkpoint leaves."""
    shutil.copytree(whole, cut)
    assert (cut / f"checkpoint-{step}").is_dir()
    for checkpoint in cut.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)
    (cut / "spring_tokens.safetensors").unlink()


def test_a_killed_process_goes_on_with_the_same_losses(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = files
    options = ("--epochs", 40, "--save-steps", 5)
    trained(data, model, tmp_path / "whole", *options)
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "spring_integrations.cli", *command(data, model, cut, *options)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(cut.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "spring_tokens.safetensors").exists()
    trained(data, model, cut, *options)
    assert history(cut) == history(tmp_path / "whole")
    assert torch.equal(*(SpringTokens.load(f).embeddings for f in (cut, tmp_path / "whole")))


def history(folder: Path) -> list[float]:
    last = max(folder.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1]))
    return [e["loss"] for e in json.loads((last / "trainer_state.json").read_text())["log_history"] if "loss" in e]


DAMAGE = {"deleted": None, "emptied": b"", "cut": 0.5, "random": bytes(range(256)) * 9}


def damage(file: Path, how: str) -> None:
    """Leaves of a file what a kill, a full disk or a bad copy leaves."""
    content, left = file.read_bytes(), DAMAGE[how]
    file.unlink()
    if left is not None:
        file.write_bytes(left if isinstance(left, bytes) else content[: int(left * len(content))])


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A run that was killed after its last checkpoint, with those of steps 6 and 8, and what it would have made."""
    folder = tmp_path_factory.mktemp("killed")
    whole = table(run(folder / "whole"))
    cut_after(folder / "whole", folder / "cut", 8)
    return folder / "cut", whole


def copy_of(killed: tuple[Path, torch.Tensor], folder: Path) -> Path:
    shutil.copytree(killed[0], folder)
    return folder


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_passed_over(
    killed: tuple[Path, torch.Tensor], name: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = copy_of(killed, tmp_path / "cut")
    damage(cut / "checkpoint-8" / name, how)
    assert torch.equal(table(run(cut)), killed[1])
    (warning,) = [r.message for r in caplog.records if r.name.startswith("spring_") and r.levelname == "WARNING"]
    assert re.search(f"checkpoint-8 is incomplete or damaged .*{name}.*; going on from checkpoint-6", warning)


@pytest.mark.parametrize(("name", "whole"), [("rng_state.pth", 6), ("training_args.bin", 8)])
def test_what_a_run_does_not_read_may_be_damaged(
    killed: tuple[Path, torch.Tensor], name: str, whole: int, tmp_path: Path
) -> None:
    for how in DAMAGE:
        cut = copy_of(killed, tmp_path / how)
        damage(cut / "checkpoint-8" / name, how)
        found = last_whole_checkpoint(cut)
        assert found == cut / f"checkpoint-{8 if how == 'deleted' else whole}"


def test_a_run_without_a_whole_checkpoint_starts_anew(
    killed: tuple[Path, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = copy_of(killed, tmp_path / "cut")
    (cut / "checkpoint-8" / "trainer_state.json").write_text("[]")
    (cut / "checkpoint-6" / "trainer_state.json").write_text("{}")  # of no step
    assert torch.equal(table(run(cut)), killed[1])
    assert "no checkpoint is whole: starting anew" in caplog.text


def test_a_checkpoint_whose_best_one_is_damaged_brings_no_result(tmp_path: Path) -> None:
    def validated() -> TrainingResult:
        return train(Backbone(*tiny_models.build("llama")), EXAMPLES, CONFIG, tmp_path, validation=EXAMPLES[:1])

    whole = table(validated())
    best = min(tmp_path.glob("checkpoint-*"))
    damage(best / "model.safetensors", "cut")
    assert last_whole_checkpoint(tmp_path) is None
    assert torch.equal(table(validated()), whole)


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(SettingsError, match=re.escape("learning_rate: 0.05 -> 0.1")):
        run(tmp_path, learning_rate=0.1)
    with pytest.raises(SettingsError, match="data: "):
        run(tmp_path, EXAMPLES[:2])
    with pytest.raises(SettingsError, match="data: "):
        run(tmp_path, EXAMPLES[::-1])
    with pytest.raises(SettingsError, match="validation: "):
        train(Backbone(*tiny_models.build("llama")), EXAMPLES, CONFIG, tmp_path, validation=EXAMPLES)
    with pytest.raises(SettingsError, match="fingerprint: "):
        run(tmp_path, family="mistral")
    run(tmp_path, micro_batch_size=1)  # another machine may have less memory


def test_another_model_with_the_same_embeddings_does_not_go_on(tmp_path: Path) -> None:
    def go_on(model: PreTrainedModel) -> None:
        train(Backbone(model, tiny_models.build("llama")[1]), EXAMPLES, CONFIG, tmp_path)

    run(tmp_path)
    tuned, _ = tiny_models.build("llama")
    tuned.model.layers[1].self_attn.q_proj.weight.data.mul_(1.001)
    with pytest.raises(SettingsError, match=r"\(backbone_weights: .* -> .*\); give those of before, or a new folder"):
        go_on(tuned)
    with pytest.raises(SettingsError, match="dtype: 'float32' -> 'bfloat16'"):
        go_on(tiny_models.build("llama")[0].bfloat16())
    # A release that did not know of it left no digest.
    settings = tmp_path / "train_config.json"
    known = json.loads(settings.read_text(encoding="utf-8"))
    del known["backbone_weights"], known["dtype"]
    settings.write_text(json.dumps(known), encoding="utf-8")
    run(tmp_path)


def test_checkpoints_hold_the_tokens_only(tmp_path: Path) -> None:
    run(tmp_path)
    checkpoints = list(tmp_path.glob("checkpoint-*"))
    assert len(checkpoints) == 2
    for checkpoint in checkpoints:
        assert (checkpoint / "model.safetensors").stat().st_size < CONFIG.n * tiny_models.WIDTH * 4 + 1000
        assert sum(f.stat().st_size for f in checkpoint.iterdir()) < 40_000


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_micro_batches_add_up_to_the_batch(tmp_path: Path, family: str) -> None:
    whole = run(tmp_path / "whole", family=family, batch_size=4)
    parts = run(tmp_path / "parts", family=family, batch_size=4, micro_batch_size=1)
    assert torch.allclose(table(parts), table(whole), atol=1e-4)


def test_running_out_of_memory_halves_the_micro_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = Backbone(*tiny_models.build("llama"))

    def allocate(module, args, kwargs) -> None:
        if len(kwargs["input_ids"]) > 1 and torch.is_grad_enabled():
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
            raise torch.OutOfMemoryError(msg)

    hook = backbone.model.register_forward_pre_hook(allocate, with_kwargs=True)
    config = dataclasses.replace(CONFIG, batch_size=4, micro_batch_size=2)
    small = train(backbone, EXAMPLES, config, tmp_path / "small")
    hook.remove()
    assert caplog.text.count("out of memory: from now on 1 example(s) at once") == 1
    assert torch.allclose(table(small), table(run(tmp_path / "whole", batch_size=4)), atol=1e-4)


def test_memory_that_one_example_exceeds_is_an_error(tmp_path: Path) -> None:
    backbone = Backbone(*tiny_models.build("llama"))

    def allocate(module, args) -> None:
        msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
        raise torch.OutOfMemoryError(msg)

    backbone.model.register_forward_pre_hook(allocate)
    with pytest.raises(TrainingError, match="out of memory with 1 example"):
        train(backbone, EXAMPLES, CONFIG, tmp_path)


def test_memory_that_runs_out_in_a_validation_halves_its_batch(tmp_path: Path) -> None:
    backbone = Backbone(*tiny_models.build("llama"))

    def allocate(module, args, kwargs) -> None:
        if len(kwargs["input_ids"]) > 1 and not torch.is_grad_enabled():
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
            raise torch.OutOfMemoryError(msg)

    hook = backbone.model.register_forward_pre_hook(allocate, with_kwargs=True)
    config = dataclasses.replace(CONFIG, micro_batch_size=1)
    small = train(backbone, EXAMPLES, config, tmp_path / "small", validation=EXAMPLES)
    hook.remove()
    whole = train(backbone, EXAMPLES, config, tmp_path / "whole", validation=EXAMPLES)
    assert small.metrics == whole.metrics


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; lower learning_rate"):
        run(tmp_path, learning_rate=3e38)


def test_settings_that_cannot_be_compared_stop_the_run(killed: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    cut = copy_of(killed, tmp_path / "cut")
    settings = cut / "train_config.json"
    for content in (b"", b"[]", b"null", b"\xff\xfe"):
        settings.write_bytes(content)
        with pytest.raises(SettingsError, match=r"train_config\.json is damaged .*; put a whole copy back"):
            run(cut)
    settings.unlink()
    with pytest.raises(SettingsError, match=r"their settings, train_config\.json, are missing; .* give a new folder"):
        run(cut, n=5)


def test_output_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot write to"):
        run(tmp_path / "out")


def test_a_backbone_in_float16_needs_scaled_gradients(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama")
    with pytest.raises(SettingsError, match="is in float16, whose gradients vanish"):
        train(Backbone(model.half(), tokenizer), EXAMPLES, CONFIG, tmp_path)


def test_best_validation_is_kept(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=8, learning_rate=0.3)
    backbone = Backbone(*tiny_models.build("llama"))
    result = train(backbone, EXAMPLES, config, tmp_path, validation=EXAMPLES)
    measured = [(e["step"], e["eval_f1"]) for e in result.log_history if "eval_f1" in e]
    assert [step for step, _ in measured] == list(range(2, 17, 2))
    assert len({f1 for _, f1 in measured}) > 1, "a validation that never changes chooses nothing"
    assert result.metrics["f1"] == round(max(f1 for _, f1 in measured), 2)
    best = json.loads((tmp_path / "train_config.json").read_text())
    assert best["epochs"] == 8
    answers = SpringModel(*tiny_models.build("llama"), SpringTokens.load(result.path)).generate(
        [RagPrompt.from_passages(e.passages[:2], e.question) for e in EXAMPLES], max_new_tokens=32
    )
    from spring_integrations.metrics import f1

    again = 100 * sum(f1(a.text, e.targets) for a, e in zip(answers, EXAMPLES, strict=True)) / len(EXAMPLES)
    assert again == pytest.approx(result.metrics["f1"], abs=0.01)


@pytest.mark.parametrize("method", ["spring", "prompt", "lora"])
def test_validation_measures_the_plain_backbone_once_beside_what_is_trained(
    method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = dataclasses.replace(CONFIG, method=method, max_new_tokens=4)
    model, tokenizer = tiny_models.build("llama")
    plain = SpringModel(*tiny_models.build("llama")).generate(
        [RagPrompt.from_passages(e.passages[:2], e.question) for e in EXAMPLES], max_new_tokens=4
    )
    # Some answers are what the plain backbone says, so that its scores are neither 0 nor 100.
    said = [dataclasses.replace(e, targets=(g.text or "nothing",)) for e, g in zip(EXAMPLES[:2], plain, strict=False)]
    with caplog.at_level("INFO", logger="spring_integrations"):
        result = train(Backbone(model, tokenizer), EXAMPLES, config, tmp_path, validation=[*said, *EXAMPLES[2:]])
    assert sum("plain_f1" in entry for entry in result.log_history) == 1
    wanted = [*said, *EXAMPLES[2:]]
    pairs = [(g.text, e.targets) for g, e in zip(plain, wanted, strict=True)]
    for name in SCORES:
        expected = 100 * sum(METRICS[name](*pair) for pair in pairs) / len(pairs)
        assert result.metrics[f"plain_{name}"] == pytest.approx(expected, abs=0.01)
    assert 0 < result.metrics["plain_em"] < 100
    lines = [message for message in caplog.messages if message.startswith("validation at step")]
    assert sum("k = 0" in line for line in lines) == sum("trained" in line for line in lines) >= 2
    assert all(re.search(r": em [\d.]+, f1 [\d.]+, contains [\d.]+$", line) for line in lines)


def test_a_short_run_has_a_curve(tmp_path: Path) -> None:
    result = train(Backbone(*tiny_models.build("llama")), EXAMPLES, TrainConfig(n=2, batch_size=2), tmp_path)
    assert [entry["step"] for entry in result.log_history if "loss" in entry] == [1, 2, 3, 4, 5, 6]


def test_progress_is_told_of_every_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    seen: list[float] = []

    def progress(done: int, total: int, logged: Mapping[str, float]) -> None:
        told.append((done, total))
        seen.extend([logged["loss"]] if "loss" in logged else [])

    backbone = Backbone(*tiny_models.build("llama"))
    result = train(backbone, EXAMPLES, CONFIG, tmp_path, progress=progress)
    assert told == [(step, 8) for step in range(9)]
    losses = [entry["loss"] for entry in result.log_history if "loss" in entry]
    assert seen == losses[:-1]  # what a step lost is logged after the step was told of
    assert "{'loss'" not in capfd.readouterr().out


def test_bf16_trains_to_nearly_the_same_tokens(tmp_path: Path) -> None:
    exact, mixed = run(tmp_path / "fp32"), run(tmp_path / "bf16", precision="bf16")
    assert not torch.equal(table(mixed), table(exact))
    assert losses(mixed)[-1] == pytest.approx(losses(exact)[-1], rel=0.2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works here")
def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="precision='fp16' needs a GPU"):
        run(tmp_path, precision="fp16")


def test_tokens_start_from_text_vocabulary_or_a_file(tmp_path: Path) -> None:
    backbone = Backbone(*tiny_models.build("llama"))
    rows = backbone.model.get_input_embeddings().weight
    text = dataclasses.replace(CONFIG, init_text="Lima", n=5)
    ids = backbone.tokenizer("Lima", add_special_tokens=False).input_ids
    expected = torch.stack([rows[ids[i % len(ids)]] for i in range(5)])
    assert torch.equal(initial_tokens(backbone, text).embeddings, expected)
    drawn = initial_tokens(backbone, dataclasses.replace(CONFIG, init="vocabulary")).embeddings
    assert all((rows == row).all(dim=1).any() for row in drawn)
    path = SpringTokens(torch.randn(8, tiny_models.WIDTH)).save(tmp_path / "eight.safetensors")
    loaded = initial_tokens(backbone, dataclasses.replace(CONFIG, init=str(path))).embeddings
    assert torch.equal(loaded, SpringTokens.load(path).embeddings[: CONFIG.n])
    with pytest.raises(TokensError, match="holds 8 tokens, fewer than n=9"):
        initial_tokens(backbone, dataclasses.replace(CONFIG, init=str(path), n=9))


def test_tokens_of_another_backbone_are_no_start(tmp_path: Path) -> None:
    backbone = Backbone(*tiny_models.build("llama"))
    wide = SpringTokens(torch.randn(8, tiny_models.WIDTH * 2)).save(tmp_path / "wide.safetensors")
    with pytest.raises(TokensError, match=r"\(d=64\) were made for another backbone"):
        train(backbone, EXAMPLES, dataclasses.replace(CONFIG, init=str(wide)), tmp_path)
    other = run(tmp_path / "other", family="mistral")
    with pytest.raises(TokensError, match="were made for another backbone"):
        train(backbone, EXAMPLES, dataclasses.replace(CONFIG, init=str(other.path)), tmp_path)


def test_an_embedding_that_scales_starts_from_the_same_vectors() -> None:
    backbone = Backbone(*tiny_models.build("gemma"))
    embedding = backbone.model.get_input_embeddings()
    ids = backbone.tokenizer(CONFIG.init_text, add_special_tokens=False).input_ids[: CONFIG.n]
    first = backbone.attach(initial_tokens(backbone, CONFIG))
    wrapped = backbone.model.get_input_embeddings()
    assert torch.allclose(wrapped(torch.arange(first, first + CONFIG.n)), embedding(torch.tensor(ids)), atol=1e-5)


def test_a_question_longer_than_the_window_stops_the_run_before_training(tmp_path: Path) -> None:
    long = Example("why " * 600, ("a",), ("p",))
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(e.as_record()) + "\n" for e in (*EXAMPLES, long)), encoding="utf-8")
    with pytest.raises(PromptTooLongError, match=r"train\.jsonl, line 5: .*of 512 positions"):
        run(tmp_path / "out", ExampleFiles([data], cache_dir=tmp_path))
    with pytest.raises(PromptTooLongError, match="example 4: "):
        run(tmp_path / "out", [*EXAMPLES, long])
    with pytest.raises(PromptTooLongError, match=r"example 4: .*an answer may take 400"):
        just_fits = Example("why " * 100, ("a",), ("p " * 20,))
        config = dataclasses.replace(CONFIG, max_new_tokens=400)
        train(Backbone(*tiny_models.build("llama")), EXAMPLES, config, tmp_path, validation=[*EXAMPLES, just_fits])
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_a_backbone_without_pad_token_trains(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama")
    tokenizer.pad_token = None
    result = train(Backbone(model, tokenizer), EXAMPLES, MANY_K, tmp_path)
    assert losses(result)[-1] < losses(result)[0]
    assert tokenizer.pad_token is None


@pytest.mark.parametrize("which", ["examples", "validation"])
def test_an_entry_that_is_no_example_is_refused(tmp_path: Path, which: str) -> None:
    good = EXAMPLES[0]
    given = {"examples": [good], "validation": [good]} | {which: [good, good.as_record()]}
    backbone = Backbone(*tiny_models.build("llama"))
    with pytest.raises(DataError, match=rf"{which}\[1\] is a dict, not an Example; make one, or read a file"):
        train(backbone, given["examples"], CONFIG, tmp_path, validation=given["validation"])


@pytest.mark.parametrize("which", ["examples", "validation"])
def test_virtual_tokens_are_not_trained_without_passages(tmp_path: Path, which: str) -> None:
    given = {"examples": EXAMPLES, "validation": ()} | {which: [EXAMPLES[0], Example("why?", ("so",), ())]}
    backbone = Backbone(*tiny_models.build("llama"))
    with pytest.raises(DataError, match=rf"{which}\[1\] \('why\?'\) has no passages; retrieve some"):
        train(backbone, given["examples"], CONFIG, tmp_path, validation=given["validation"])


def test_a_start_text_of_half_a_surrogate_pair_is_a_start(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, init_text="read\ud800 this", epochs=1)
    assert train(Backbone(*tiny_models.build("llama")), EXAMPLES, config, tmp_path).path.is_file()


def test_a_backbone_in_use_is_not_trained_on(spring_llama: SpringModel, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="already carries virtual tokens"):
        train(spring_llama.frozen, EXAMPLES, CONFIG, tmp_path)


def test_only_processes_can_share_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="there is one process only"):
        run(tmp_path, shard_backbone=True)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(SettingsError, match=r"accelerate is set to DeepSpeed.* give shard_backbone=True"):
        run(tmp_path)


def test_a_full_disk_leaves_the_previous_checkpoint(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = files
    out = tmp_path / "out"
    options = ("--save-steps", 2)
    trained(data, model, out, *options)
    cut_after(out, tmp_path / "cut", 6)
    limit = (tmp_path / "cut" / "checkpoint-6" / "optimizer.pt").stat().st_size - 100

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = spring_rag(*command(data, model, tmp_path / "cut", *options), preexec_fn=small_files_only)
    assert full.returncode == 2, full.stderr
    assert "Error: cannot write to" in full.stderr, full.stderr
    assert "checkpoint-6 is whole" in full.stderr
    trained(data, model, tmp_path / "cut", *options)
    assert torch.equal(*(SpringTokens.load(f).embeddings for f in (out, tmp_path / "cut")))


@pytest.mark.parametrize("placement", [[], ["--shard-backbone"]], ids=["whole", "sharded"])
def test_two_processes_train_the_tokens_of_one(files: tuple[Path, Path], tmp_path: Path, placement: list[str]) -> None:
    data, model = files
    data.write_text("".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[:3]), encoding="utf-8")
    # 3 x 3 visits do not fill whole steps of 4; each process runs two micro-batches.
    options = ("--batch-size", 4, "--epochs", 3, "--validation", data, "--save-steps", 2, "--micro-batch-size", 1)
    single = trained(data, model, tmp_path / "one", *options)
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    whole = [*launch, "-m", "spring_integrations.cli", *command(data, model, tmp_path / "two", *options, *placement)]
    double = subprocess.run(whole, capture_output=True, encoding="utf-8", env=environment(), check=False, timeout=300)
    assert double.returncode == 0, double.stderr
    assert double.stdout.count("spring_tokens.safetensors") == single.count("spring_tokens.safetensors")
    one, two = (SpringTokens.load(tmp_path / name) for name in ("one", "two"))
    assert [t.metadata.training["processes"] for t in (one, two)] == [1, 2]
    assert torch.allclose(one.embeddings, two.embeddings, atol=1e-4)
    assert two.metadata.training["metrics"] == pytest.approx(one.metadata.training["metrics"], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", 4, "--micro-batch-size", 3], "batch_size=4 is not a multiple"),
        (["--weights", "1,x"], "--weights must be numbers with commas between them, got '1,x'"),
        (["--weights", "1,2"], "weights must be 1 numbers above 0"),
        (["--init", "/no/such.safetensors"], "no tokens file at '/no/such.safetensors'"),
        (["--weights", "1e308"], "the weights 1e+308 are too large to add up"),
        (["--dtype", "bf16"], "--dtype bf16 is not a type to train in; give auto, bfloat16, float16 or float32"),
        (["--dtype", "float8_e4m3fn"], "--dtype float8_e4m3fn is not a type to train in"),
        (["--dtype", "int8"], "--dtype int8 is not a type to train in"),
        (["--seed", -1], "seed must be from 0 to 4,294,967,295, got seed=-1"),
        (["--seed", 2**32], "seed must be from 0 to 4,294,967,295, got seed=4294967296"),
        (["--quantization", "4bit"], "needs a package that is not installed: pip install bitsandbytes"),
    ],
)
def test_impossible_options_are_one_line(files: tuple[Path, Path], tmp_path: Path, options: list, message: str) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, command(*files, tmp_path / "out", *options))
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_prepare_writes_a_training_file(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "peru.txt").write_text("Lima is the capital of Peru.", encoding="utf-8")
    (tmp_path / "docs" / "sea.txt").write_text("The river flows to the sea.", encoding="utf-8")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "capital of Peru", "target": "Lima"}\n', encoding="utf-8")
    for retriever in ("bm25", "dense"):
        out = tmp_path / f"{retriever}.jsonl"
        options = ["--docs", tmp_path / "docs", "--out", out, "--top", 1, "--retriever", retriever]
        done = CliRunner().invoke(app, ["prepare", str(questions), *map(str, options)])
        assert done.exit_code == 0, done.stderr
        expected = Example("capital of Peru", ("Lima",), ("Lima is the capital of Peru.",))
        assert list(ExampleFiles([out], cache_dir=tmp_path / "cache")) == [expected]
    questions.write_text('{"question": "capital of Peru"}\n', encoding="utf-8")
    options = ["--docs", str(tmp_path / "docs"), "--out", str(tmp_path / "none.jsonl")]
    done = CliRunner().invoke(app, ["prepare", str(questions), *options])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "questions.jsonl, line 1: no field 'target'" in done.stderr
