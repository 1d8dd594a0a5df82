"""Merged checkpoints: the export answers as SpringModel does, without virtual tokens as the backbone does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPConfig,
    DistilBertConfig,
    Gemma3Config,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PretrainedConfig,
    ViTConfig,
)
from typer.testing import CliRunner

from spring_integrations import RagPrompt, SpringModel, SpringTokens
from spring_integrations.cli import app
from spring_integrations.errors import (
    BackboneError,
    SettingsError,
    SpringError,
    StorageError,
    TokenCountError,
    TokensError,
)
from spring_integrations.export import PromptEmbeds, export_checkpoint
from spring_integrations.export.head import WANTED, common_direction
from spring_integrations.export.words import references, with_references
from spring_integrations.prompts import token_text
from spring_integrations.runtime.backbone import Backbone, fingerprint
from spring_integrations.runtime.settings import GenerationSettings

FAMILIES = (*tiny_models.ARCHITECTURES, "qwen3")
PROMPTS = [
    RagPrompt.from_passages(["Lima is the capital of Peru.", "The river Rímac flows."], "what is the capital of Peru?"),
    RagPrompt("Wilhelm Conrad Röntgen got it.\n\n", "Question: who?\nAnswer:"),
    RagPrompt("naïve café — 東京 🙂", " Query: [ref2] and </s>?"),
]
NEW = 12


def saved(folder: Path, family: str, **options: Any) -> Path:
    model, words = tiny_models.build(family, **options)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def served_text(prompt: RagPrompt, k: int) -> str:
    """The prompt as `ServedTokens` sends it."""
    broken = [part.replace("[ref", "[\u2060ref") for part in (prompt.before, prompt.after)]
    return token_text(k).join(broken)


def as_served(prompt: RagPrompt) -> RagPrompt:
    return RagPrompt(*(part.replace("[ref", "[\u2060ref") for part in (prompt.before, prompt.after)))


@pytest.mark.parametrize("family", FAMILIES)
def test_export_answers_as_the_local_model_and_the_backbone_do(
    family: str, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    source = saved(tmp_path / "backbone", family)
    done = export_checkpoint(str(source), random_tokens, tmp_path / "out")
    local = SpringModel.from_pretrained(str(source), settings=GenerationSettings(max_new_tokens=NEW))
    plain = local.backbone
    local = SpringModel(plain, local.tokenizer, random_tokens, settings=GenerationSettings(max_new_tokens=NEW))
    model, words = (auto.from_pretrained(tmp_path / "out") for auto in (AutoModelForCausalLM, AutoTokenizer))
    assert type(model) is type(plain)
    rows = model.get_input_embeddings().weight
    assert torch.equal(rows[done.first_id :], random_tokens.embeddings)
    for prompt in PROMPTS:
        for k in (0, 3, 8):
            ids = words(served_text(prompt, k), return_tensors="pt").input_ids
            greedy = model.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.shape[1] :]
            expected = local.generate(as_served(prompt), k=k)[0]
            assert ids.shape[1] == expected.prompt_tokens
            text = words.decode(greedy, skip_special_tokens=True).removeprefix("##")  # as the runtime shows WordPiece
            assert text.strip() == expected.text.strip()
            assert (greedy < done.first_id).all()
        with torch.inference_mode():
            ours, theirs = (m(ids[:, :6]).logits for m in (model, plain))
        torch.testing.assert_close(ours[..., : done.first_id], theirs, rtol=0, atol=1e-5)
        assert (ours[..., done.first_id :].max(-1).values < theirs.max(-1).values).all()


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "gpt2", "gpt_neox"])
def test_200_prompts_get_the_same_greedy_answers(family: str, random_tokens: SpringTokens, tmp_path: Path) -> None:
    source = saved(tmp_path / "backbone", family)
    export_checkpoint(str(source), random_tokens, tmp_path / "out")
    frozen = SpringModel.from_pretrained(str(source)).frozen
    local = SpringModel(frozen, tokens=random_tokens, settings=GenerationSettings(max_new_tokens=NEW))
    names = ("Lima", "Röntgen", "the river Rímac", "a café", "the prize")
    prompts = [
        RagPrompt.from_passages([f"{a} is {b} in {year}.", f"{b} holds {a}."], f"what is {a} in {year}?")
        for a in names
        for b in names
        for year in range(1901, 1909)
    ]
    assert len(prompts) == 200
    expected = [done.text.strip() for done in local.generate(prompts, k=8)]
    assert len(set(expected)) > 50
    model, words = (auto.from_pretrained(tmp_path / "out") for auto in (AutoModelForCausalLM, AutoTokenizer))
    words.pad_token_id, words.padding_side = frozen.pad_id, "left"
    batch = words([served_text(prompt, 8) for prompt in prompts], return_tensors="pt", padding=True)
    greedy = model.generate(
        batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=NEW, do_sample=False, pad_token_id=0
    )
    answers = words.batch_decode(greedy[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    same = sum(a.strip() == b for a, b in zip(answers, expected, strict=True))
    assert same >= 198, "a word or two may lie as near to another as rounding goes"


@pytest.mark.parametrize("kind", tiny_models.TOKENIZER_KINDS)
def test_tokenizer_splits_around_virtual_tokens_as_the_runtime_does(kind: str, tmp_path: Path) -> None:
    model, words = tiny_models.build("llama", kind)
    backbone = Backbone(model, words)
    first = model.get_input_embeddings().num_embeddings
    with_references(words, 8, first, "tiny").save_pretrained(tmp_path)
    grown = AutoTokenizer.from_pretrained(tmp_path)
    for before, after in [("a Peru.\n\n", "Question: b"), ("x", " y"), ("x ", "y"), ("", "Lima"), ("\n", "\n")]:
        for k in (1, 8):
            expected = backbone.encode(RagPrompt(before, after), range(first, first + k))
            assert grown(before + token_text(k) + after).input_ids == expected
    assert grown("Lima [REF1] Peru").input_ids == words("Lima [REF1] Peru").input_ids
    assert grown("[ref1]", split_special_tokens=True, add_special_tokens=False).input_ids != [first]
    assert not set(references(8)) & set(words.get_vocab()), "the backbone's own tokenizer stays as it is"


def test_padded_vocabulary_keeps_its_rows(random_tokens: SpringTokens, tmp_path: Path) -> None:
    source = saved(tmp_path / "padded", "qwen2", extra_rows=11)
    done = export_checkpoint(str(source), random_tokens, tmp_path / "out")
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    old = AutoModelForCausalLM.from_pretrained(source)
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert done.first_id == old.config.vocab_size == len(AutoTokenizer.from_pretrained(source)) + 11
    assert words.convert_tokens_to_ids("[ref1]") == done.first_id
    assert len(words) == new.config.vocab_size == done.first_id + len(random_tokens)
    assert torch.equal(new.get_input_embeddings().weight[: done.first_id], old.get_input_embeddings().weight)
    assert torch.equal(new.get_output_embeddings().weight[: done.first_id], old.get_input_embeddings().weight)
    assert not new.config.tie_word_embeddings


def test_first_k_only(llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path) -> None:
    assert export_checkpoint(str(llama_folder), random_tokens, tmp_path / "out", k=3).n == 3
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert "[ref3]" in words.get_vocab()
    assert "[ref4]" not in words.get_vocab()
    with pytest.raises(TokenCountError, match="k=9"):
        export_checkpoint(str(llama_folder), random_tokens, tmp_path / "nine", k=9)


def test_generation_settings_and_chat_template_are_kept(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    source = shutil.copytree(llama_folder, tmp_path / "source")
    (source / "generation_config.json").write_text('{"eos_token_id": [1, 3], "temperature": 0.7}')
    (source / "LICENSE.txt").write_text("do as you like")
    (source / "LICENSES").mkdir()
    done = export_checkpoint(str(source), random_tokens, tmp_path / "out")
    out = tmp_path / "out"
    assert json.loads((out / "generation_config.json").read_text()) == {"eos_token_id": [1, 3], "temperature": 0.7}
    assert (out / "LICENSE.txt").read_text() == "do as you like"
    chats = [AutoTokenizer.from_pretrained(folder).chat_template for folder in (source, out)]
    assert chats[0] == chats[1] is not None
    assert json.loads((out / "spring_export.json").read_text()) == vars(done)


def sharded(folder: Path, family: str, random_tokens: SpringTokens) -> Path:
    model, words = tiny_models.build(family)
    model.save_pretrained(folder, max_shard_size="40KB")
    words.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_shards_are_copied_as_they_are_but_for_embedding_and_head(
    family: str, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    source = sharded(tmp_path / "source", family, random_tokens)
    export_checkpoint(str(source), random_tokens, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = {path.name for path in source.glob("*.safetensors")}
    assert set(index["weight_map"].values()) == files
    same = [f for f in files if (source / f).read_bytes() == (tmp_path / "out" / f).read_bytes()]
    assert len(files) - len(same) == (1 if family == "qwen2" else 2)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    whole = AutoModelForCausalLM.from_pretrained(source)
    ids = torch.tensor([[5, 9, 12, 40]])
    torch.testing.assert_close(model(ids).logits[..., : whole.config.vocab_size], whole(ids).logits, rtol=0, atol=1e-6)


def test_files_of_a_bare_body_get_the_names_of_the_whole_model(random_tokens: SpringTokens, tmp_path: Path) -> None:
    source = saved(tmp_path / "source", "gpt2")  # as the hub has GPT-2: no "transformer." in its names
    weights = load_file(source / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(bare, source / "model.safetensors", metadata={"format": "pt"})
    export_checkpoint(str(source), random_tokens, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert set(found) == {*weights, "lm_head.weight"}
    assert torch.equal(found["transformer.wte.weight"][-8:], random_tokens.embeddings)


def test_head_with_a_bias_settles_it_for_every_input(random_tokens: SpringTokens, tmp_path: Path) -> None:
    source = saved(tmp_path / "source", "bert")
    done = export_checkpoint(str(source), random_tokens, tmp_path / "out")
    assert (done.head, done.highest) == ("bias", None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    shares = model(torch.randint(done.first_id, (4, 32))).logits.softmax(-1)[..., done.first_id :].sum(-1)
    assert shares.max() < WANTED


def test_untrained_model_gets_the_row_that_never_is_the_largest(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = export_checkpoint(str(llama_folder), random_tokens, tmp_path / "out")
    assert done.head == "mean"
    assert "No greedy answer holds one" in caplog.text
    head = AutoModelForCausalLM.from_pretrained(tmp_path / "out").get_output_embeddings().weight
    states = torch.randn(20_000, head.shape[1], generator=torch.Generator().manual_seed(3)) * 3
    logits = states @ head.T
    assert (logits[:, done.first_id :].max(1).values < logits[:, : done.first_id].max(1).values).all()
    assert logits.softmax(1)[:, done.first_id :].sum(1).max() <= len(random_tokens) / done.first_id


def test_states_on_one_side_have_a_direction_and_others_have_none() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 16, generator=rng)
    assert common_direction(noise.split(50)) is None
    one_sided = noise + 6 * torch.eye(16)[3]
    found = common_direction(one_sided.split(50))
    assert found is not None
    assert (one_sided @ found > 0).all()
    assert found.argmax() == 3


def trained_like(folder: Path) -> Path:
    """A model whose final states share a direction, as those of trained models do."""
    model, words = tiny_models.build("llama")
    with torch.no_grad():
        # Every word brings the same first coordinate; layers add to it, none takes it away.
        model.model.embed_tokens.weight[:, 0] = 12.0
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[0] = 0
        model.lm_head.weight[:, 0] = 0
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_trained_model_gives_virtual_tokens_next_to_no_probability(random_tokens: SpringTokens, tmp_path: Path) -> None:
    done = export_checkpoint(str(trained_like(tmp_path / "source")), random_tokens, tmp_path / "out")
    assert done.head == "direction"
    assert done.highest is not None
    assert done.highest < WANTED
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    old = AutoModelForCausalLM.from_pretrained(tmp_path / "source")
    ids = torch.randint(done.first_id, (8, 48), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        ours, theirs = model(ids).logits.log_softmax(-1), old(ids).logits.log_softmax(-1)
    assert ours[..., done.first_id :].exp().sum(-1).max() < WANTED
    torch.testing.assert_close(ours[..., : done.first_id], theirs, rtol=0, atol=1e-4)


MEASURED = """
import resource, sys
from pathlib import Path
from spring_integrations import SpringTokens
from spring_integrations.export import export_checkpoint
from transformers import AutoModelForCausalLM
import torch
from spring_integrations.export import head
head.probe_ids = lambda *_: [torch.arange(16), torch.arange(16)]  # activations do not grow with the model
source, tokens, out, room = sys.argv[1], SpringTokens.load(sys.argv[2]), sys.argv[3], int(sys.argv[4])
export_checkpoint(source + "-small", tokens, out + "-small")  # loads all code
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmData"].split()[0]) * 1024 + room
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(export_checkpoint(source, tokens, out).n)
try:
    [p.clone() for p in AutoModelForCausalLM.from_pretrained(source).parameters()]
except (MemoryError, RuntimeError):
    print("the whole model does not fit")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_needs_memory_for_the_largest_shard_only(random_tokens: SpringTokens, tmp_path: Path) -> None:
    model, words = tiny_models.build("llama")
    config = LlamaConfig(**{**model.config.to_dict(), "num_hidden_layers": 12, "intermediate_size": 48_000})
    tokens = random_tokens.save(tmp_path / "tokens.safetensors")
    for name, made in (("big", LlamaForCausalLM(config)), ("big-small", model)):
        made.save_pretrained(tmp_path / name, max_shard_size="20MB")
        words.save_pretrained(tmp_path / name)
    shards = [path.stat().st_size for path in (tmp_path / "big").glob("*.safetensors")]
    room = 6 * max(shards)
    assert sum(shards) > 1.8 * room
    arguments = [str(tmp_path / "big"), str(tokens), str(tmp_path / "out"), str(room)]
    # What is freed goes back at once; glibc would keep some of it, as much as its threads happened to free.
    given_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, env=given_back, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines() == ["8", "the whole model does not fit"]


KILLED = """
import os, signal, sys
from spring_integrations import SpringTokens
from spring_integrations.export import export_checkpoint, merged
def killed(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
merged.save_file = killed
export_checkpoint(sys.argv[1], SpringTokens.load(sys.argv[2]), sys.argv[3])
"""


def test_kill_half_way_leaves_nothing_that_looks_whole(
    random_tokens: SpringTokens, tokens_file: Path, tmp_path: Path
) -> None:
    source = sharded(tmp_path / "source", "llama", random_tokens)
    out = tmp_path / "exports" / "out"
    command = [sys.executable, "-c", KILLED, str(source), str(tokens_file), str(out)]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = out.parent.iterdir()
    assert left.name.startswith(".out.")
    assert not list(left.glob("config.json"))
    export_checkpoint(str(source), random_tokens, out)
    assert [path.name for path in out.parent.iterdir()] == ["out"], "what was left is removed"


def test_failed_write_leaves_nothing(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spring_integrations.export.merged.save_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        export_checkpoint(str(llama_folder), random_tokens, tmp_path / "a" / "out")
    assert list((tmp_path / "a").iterdir()) == []


def test_small_disk_is_seen_before_anything_is_written(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"needs 0\.1 GB, but .* has 0\.0 GB free"):
        export_checkpoint(str(llama_folder), random_tokens, tmp_path / "a" / "out")
    assert not (tmp_path / "a").exists()


def _quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _damaged(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 1000)


def _lacking_a_shard(folder: Path) -> None:
    index = {"weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def _index(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(text)

    return change


def _lacking_half_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    tiny_models.build("llama")[0].save_pretrained(folder, max_shard_size="40KB")
    files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    file = folder / files["model.layers.1.mlp.up_proj.weight"]
    os.truncate(file, file.stat().st_size - 10)


def _lacking_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.embed_tokens.weight"]
    save_file(weights, folder / "model.safetensors")


def _grown_by_hand(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].repeat(2, 1)
    save_file(weights, folder / "model.safetensors")


def _taught(folder: Path) -> None:
    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens(["[ref1]"])
    words.save_pretrained(folder)


def _larger_tokenizer(folder: Path) -> None:
    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens(["one", "two", "three more"])
    words.save_pretrained(folder)


def _encoder_decoder(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))


def _multimodal(folder: Path) -> None:
    text = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 16, "vocab_size": 64}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16, "num_attention_heads": 2}
    Gemma3Config(text_config=text, vision_config=vision).save_pretrained(folder)


def _classifier(folder: Path) -> None:
    LlamaForSequenceClassification(LlamaConfig.from_pretrained(folder)).save_pretrained(folder)


def _with_holes(folder: Path) -> None:
    tiny_models.build("llama", extra_rows=20)[0].save_pretrained(folder)
    words = json.loads((folder / "tokenizer.json").read_text())
    known = words["model"]["vocab"]
    known[max(known, key=known.get)] = 365
    (folder / "tokenizer.json").write_text(json.dumps(words))


OTHERS = (ViTConfig(), DistilBertConfig(), CLIPConfig())


def _another_kind(config: PretrainedConfig) -> Callable[[Path], None]:
    return config.save_pretrained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_quantised, "is quantised \\(gptq\\)"),
        (_pickled, "only .bin files.*save_pretrained"),
        (_without_weights, "no weights"),
        (_damaged, "is damaged"),
        (_lacking_a_shard, "lacks 1 of its shards, first 'model-00001-of-00002"),
        (_multimodal, "is multimodal .*are not exported"),
        (_classifier, "has no output head"),
        (_with_holes, "give every id a word"),
        *((_another_kind(c), f"no causal language model, but a model of type '{c.model_type}'") for c in OTHERS),
        (_index("{"), "index.json' is damaged"),
        (_index("{}"), "index.json' is damaged"),
        (_lacking_half_a_shard, "is damaged: .*fetch it again"),
        (_lacking_a_tensor, "no tensor 'model.embed_tokens.weight'"),
        (_grown_by_hand, "to be .*, but it is .*resize_token_embeddings"),
        (_taught, "already knows '\\[ref1\\]'"),
        (_larger_tokenizer, "has . words more than the embedding table has rows"),
        (_encoder_decoder, "is an encoder-decoder"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    change: Callable[[Path], None], message: str, llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    source = shutil.copytree(llama_folder, tmp_path / "source")
    change(source)
    with pytest.raises(BackboneError, match=message) as refused:
        export_checkpoint(str(source), random_tokens, tmp_path / "a" / "out")
    assert len(str(refused.value)) < 600
    assert not (tmp_path / "a").exists()


def test_tokens_of_another_width_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"d=7, but .* 32"):
        export_checkpoint(str(llama_folder), SpringTokens(torch.ones(2, 7)), tmp_path / "out")


def test_tokens_of_another_backbone(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mark = fingerprint(AutoModelForCausalLM.from_pretrained(llama_folder).get_input_embeddings())
    own = random_tokens.with_metadata(backbone="org/mine", fingerprint=mark)
    export_checkpoint(str(llama_folder), own, tmp_path / "own", on_other_backbone="error")
    for other in (
        random_tokens.with_metadata(backbone="org/other", fingerprint="0" * 32),
        random_tokens.with_metadata(backbone="org/other"),
    ):
        for make in (partial(export_checkpoint, out=tmp_path / "none"), PromptEmbeds.load):
            with pytest.raises(TokensError, match=r"were trained for org/other.*expect poor answers"):
                make(llama_folder, tokens=other, on_other_backbone="error")
    assert "org/other" not in caplog.text
    PromptEmbeds.load(str(llama_folder), other)
    assert "were trained for org/other" in caplog.text
    with pytest.raises(SettingsError, match="on_other_backbone='shout'"):
        PromptEmbeds.load(str(llama_folder), other, on_other_backbone="shout")


def test_tokens_that_the_checkpoints_dtype_cannot_hold_are_refused(tmp_path: Path) -> None:
    model, words = tiny_models.build("llama")
    model.half().save_pretrained(tmp_path / "source")
    words.save_pretrained(tmp_path / "source")
    tokens = SpringTokens(torch.full((2, 32), 1e5))
    for make in (partial(export_checkpoint, out=tmp_path / "out"), PromptEmbeds.load):
        with pytest.raises(TokensError, match=r"reach 1e\+05, but .* is in torch.float16, which ends at 6.55e\+04"):
            make(tmp_path / "source", tokens=tokens)


def test_paths_are_taken_for_models_and_not_for_tokens(
    llama_folder: Path, tokens_file: Path, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    assert export_checkpoint(llama_folder, random_tokens, tmp_path / "out").backbone == str(llama_folder)
    for make in (partial(export_checkpoint, out=tmp_path / "none", k=3), PromptEmbeds.load):
        with pytest.raises(TokensError, match=r"SpringTokens\.load"):
            make(llama_folder, tokens=str(tokens_file))


def test_head_of_its_own_in_the_file_is_kept_though_the_configuration_ties_it(
    random_tokens: SpringTokens, tmp_path: Path
) -> None:
    for own in (True, False):
        source = saved(tmp_path / f"source-{own}", "qwen2")
        weights = load_file(source / "model.safetensors")
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        if own:
            weights["lm_head.weight"][7] *= -2
        save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
        done = export_checkpoint(source, random_tokens, tmp_path / f"out-{own}")
        head = load_file(tmp_path / f"out-{own}" / "model.safetensors")["lm_head.weight"]
        theirs = AutoModelForCausalLM.from_pretrained(source).get_output_embeddings().weight
        assert torch.equal(head[: done.first_id], theirs)
        assert torch.equal(head[: done.first_id], weights["lm_head.weight"])


def test_of_a_single_file_and_an_index_the_file_is_read(random_tokens: SpringTokens, tmp_path: Path) -> None:
    source = sharded(tmp_path / "source", "llama", random_tokens)
    tiny_models.build("llama", seed=3)[0].save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", source)
    export_checkpoint(source, random_tokens, tmp_path / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    ours, theirs = (load_file(f / "model.safetensors")[name] for f in (tmp_path / "out", source))
    assert torch.equal(ours, theirs)


def test_folder_with_something_in_it_is_refused(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(StorageError, match="is not an empty folder"):
            export_checkpoint(str(llama_folder), random_tokens, out)
    (tmp_path / "empty").mkdir()
    export_checkpoint(str(llama_folder), random_tokens, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_link_to_an_empty_folder_and_a_mount_point_are_filled(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    export_checkpoint(str(llama_folder), random_tokens, tmp_path / "link")
    expected = sorted(path.name for path in (tmp_path / "empty").iterdir())
    assert "config.json" in expected

    def busy(*_: Any) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "mount").mkdir()
    monkeypatch.setattr(Path, "replace", busy)
    export_checkpoint(str(llama_folder), random_tokens, tmp_path / "mount")
    assert sorted(path.name for path in (tmp_path / "mount").iterdir()) == expected
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_filled_meanwhile_is_left_alone(
    llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: Any, **named: Any) -> None:
        save_file(*arguments, **named)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").touch()

    monkeypatch.setattr("spring_integrations.export.merged.save_file", meanwhile)
    with pytest.raises(StorageError, match=r"cannot write the export to .*not empty"):
        export_checkpoint(str(llama_folder), random_tokens, tmp_path / "out")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/mine.txt"]


def test_a_model_that_cannot_run_module_by_module_is_loaded_whole(random_tokens: SpringTokens, tmp_path: Path) -> None:
    words = tiny_models.tokenizer("no-prepend")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = Gemma3nTextConfig(
        vocab_size=len(words),
        vocab_size_per_layer_input=len(words),
        hidden_size=32,
        intermediate_size=[48, 48],
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=0,
        laurel_rank=4,
        altup_num_inputs=2,
        layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.0, 0.0],
        pad_token_id=0,
        **sizes,
    )
    Gemma3nForCausalLM(config).save_pretrained(tmp_path / "source")
    words.save_pretrained(tmp_path / "source")
    assert export_checkpoint(tmp_path / "source", random_tokens, tmp_path / "out").n == 8


def test_families_whose_head_vllm_takes_from_the_embedding_get_a_warning(
    random_tokens: SpringTokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for family, warned in (("gemma2", True), ("gemma", False)):
        caplog.clear()
        export_checkpoint(saved(tmp_path / family, family), random_tokens, tmp_path / f"{family}-out")
        assert (f"vLLM takes the output head of {family} models" in caplog.text) is warned


def test_an_export_is_no_backbone(llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path) -> None:
    export_checkpoint(str(llama_folder), random_tokens, tmp_path / "once")
    with pytest.raises(SpringError, match="is it an export"):
        export_checkpoint(str(tmp_path / "once"), random_tokens, tmp_path / "twice")


def test_half_precision_is_kept(random_tokens: SpringTokens, tmp_path: Path) -> None:
    model, words = tiny_models.build("llama")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "source")
    words.save_pretrained(tmp_path / "source")
    export_checkpoint(str(tmp_path / "source"), random_tokens, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_command(llama_folder: Path, tokens_file: Path, tmp_path: Path) -> None:
    arguments = ["export", "--model", str(llama_folder), "--tokens", str(tokens_file), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--k", "5"])
    assert done.exit_code == 0
    assert "[ref1] to [ref5] are ids 350 to 354" in done.output
    again = CliRunner().invoke(app, arguments)
    assert (again.exit_code, "is not an empty folder" in again.output) == (2, True)
    nameless = CliRunner().invoke(app, ["export", "--model", str(llama_folder), "--out", str(tmp_path / "new")])
    assert (nameless.exit_code, "Give their file with --tokens" in nameless.output) == (2, True)
