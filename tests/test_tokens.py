"""Virtual tokens as files: what is read, what is refused, and that a table survives a round trip."""

from __future__ import annotations

import pickle
from pathlib import Path

import huggingface_hub
import peft
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from spring_integrations import SpringError, SpringTokens
from spring_integrations.errors import TokenCountError, TokensError
from spring_integrations.tokens import FILE_NAME, TokensMetadata

TABLE = torch.arange(12, dtype=torch.float32).reshape(4, 3) / 7


class TestTable:
    def test_length_and_width(self):
        tokens = SpringTokens(TABLE)
        assert (len(tokens), tokens.width) == (4, 3)
        assert "n=4, d=3" in repr(tokens)

    def test_keeps_a_copy(self):
        mine = TABLE.clone()
        tokens = SpringTokens(mine)
        mine.zero_()
        assert torch.equal(tokens.embeddings, TABLE)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_any_float_becomes_float32(self, dtype):
        embeddings = SpringTokens(TABLE.to(dtype)).embeddings
        assert embeddings.dtype == torch.float32
        assert torch.equal(embeddings, TABLE.to(dtype).float())

    def test_a_parameter_loses_its_gradient(self):
        assert not SpringTokens(torch.nn.Parameter(TABLE.clone())).embeddings.requires_grad

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (torch.zeros(3), r"matrix \[n, d\], got a tensor of shape \[3\]"),
            (torch.zeros(1, 2, 3), r"\[1, 2, 3\]"),
            (torch.zeros(0, 3), r"\[0, 3\]"),
            (torch.zeros(3, 0), r"\[3, 0\]"),
            (torch.zeros(2, 3, dtype=torch.long), r"floating-point vectors, got torch.int64"),
            (torch.tensor([[0.0], [torch.nan]]), r"NaN or Inf \(rows \[1\] of 2\)"),
            (torch.tensor([[torch.inf], [0.0]]), r"rows \[0\]"),
        ],
    )
    def test_refuses_what_is_no_table(self, table, message):
        with pytest.raises(TokensError, match=message) as caught:
            SpringTokens(table)
        assert isinstance(caught.value, SpringError)
        assert isinstance(caught.value, ValueError)


class TestFirst:
    @given(st.integers(1, 4))
    def test_first_rows(self, k):
        first = SpringTokens(TABLE, TokensMetadata(backbone="b")).first(k)
        assert torch.equal(first.embeddings, TABLE[:k])
        assert first.metadata.backbone == "b"

    @pytest.mark.parametrize("k", [-1, 0, 5, 1.5, True, "2"])
    def test_count_outside_names_n(self, k):
        with pytest.raises(TokenCountError, match=r"n=4"):
            SpringTokens(TABLE).first(k)

    def test_digest_follows_the_values(self):
        tokens = SpringTokens(TABLE)
        assert tokens.digest == SpringTokens(TABLE.double(), TokensMetadata(backbone="x")).digest
        assert tokens.digest != SpringTokens(TABLE + 1e-3).digest
        assert tokens.digest != tokens.first(3).digest


class TestSafetensors:
    METADATA = TokensMetadata(
        backbone="org/model", revision="abc", fingerprint="f", template="official", license="MIT",
        training={"lr": 1e-4, "epochs": 3, "data": ["nq"], "note": "é"},
    )  # fmt: skip

    def test_round_trip_with_metadata(self, tmp_path):
        path = SpringTokens(TABLE, self.METADATA).save(tmp_path / "new" / "tokens.safetensors")
        loaded = SpringTokens.load(path)
        assert torch.equal(loaded.embeddings, TABLE)
        assert loaded.metadata == self.METADATA

    def test_loads_a_folder_and_a_string_path(self, tmp_path):
        SpringTokens(TABLE).save(tmp_path / FILE_NAME)
        assert torch.equal(SpringTokens.load(str(tmp_path)).embeddings, TABLE)

    def test_failing_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = SpringTokens(TABLE).save(tmp_path / "tokens.safetensors")
        before = path.read_bytes()

        def fail(file, data):
            with file.open("wb") as half:
                half.write(data[:20])
            msg = "disk full"
            raise OSError(msg)

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="disk full"):
            SpringTokens(TABLE + 1).save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_with_metadata_changes_a_copy(self):
        tokens = SpringTokens(TABLE, self.METADATA)
        changed = tokens.with_metadata(backbone="other")
        assert (changed.metadata.backbone, tokens.metadata.backbone) == ("other", "org/model")
        assert changed.digest == tokens.digest

    def test_refuses_a_later_format(self, tmp_path):
        save_file({"embeddings": TABLE}, tmp_path / "t.safetensors", metadata={"format_version": "2"})
        with pytest.raises(TokensError, match=r"version 2.*reads 1"):
            SpringTokens.load(tmp_path / "t.safetensors")

    def test_refuses_a_file_without_tokens(self, tmp_path):
        save_file({"lm_head.weight": TABLE}, tmp_path / "t.safetensors")
        with pytest.raises(TokensError, match=r"no tensor 'embeddings', only \['lm_head.weight'\]"):
            SpringTokens.load(tmp_path / "t.safetensors")

    def test_refuses_a_damaged_file(self, tmp_path):
        path = SpringTokens(TABLE).save(tmp_path / "t.safetensors")
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(TokensError, match="is not a tokens file"):
            SpringTokens.load(path)

    def test_refuses_damaged_metadata(self, tmp_path):
        save_file({"embeddings": TABLE}, tmp_path / "t.safetensors", metadata={"training": "{"})
        with pytest.raises(TokensError, match="metadata is not JSON"):
            SpringTokens.load(tmp_path / "t.safetensors")


class _Bomb:
    """Its unpickling would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "boom"))


class TestAuthorsFile:
    @pytest.mark.parametrize("wrap", [lambda t: t, torch.nn.Parameter, lambda t: {"prompt_embeddings": t}])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_tensor_and_parameter(self, tmp_path, wrap, dtype):
        torch.save(wrap(TABLE.to(dtype)), tmp_path / "t.pt")
        assert torch.equal(SpringTokens.load(tmp_path / "t.pt").embeddings, TABLE.to(dtype).float())

    @pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
    def test_code_is_refused_and_not_run(self, tmp_path, write):
        target = tmp_path / "ran"
        write({"table": _Bomb(target)}, tmp_path / "t.pt")
        with pytest.raises(TokensError, match="files that carry code are refused"):
            SpringTokens.load(tmp_path / "t.pt")
        assert not target.exists()

    def test_the_bomb_would_go_off(self, tmp_path):
        torch.save(_Bomb(tmp_path / "ran"), tmp_path / "t.pt")
        torch.load(tmp_path / "t.pt", weights_only=False)
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize("value", [{"a": TABLE, "b": TABLE}, [TABLE], 3])
    def test_refuses_other_contents(self, tmp_path, value):
        torch.save(value, tmp_path / "t.pt")
        with pytest.raises(TokensError, match=r"expected one tensor \[n, d\]"):
            SpringTokens.load(tmp_path / "t.pt")

    def test_refuses_nan(self, tmp_path):
        torch.save(TABLE * torch.nan, tmp_path / "t.pt")
        with pytest.raises(TokensError, match="NaN"):
            SpringTokens.load(tmp_path / "t.pt")


def _adapter(folder, config):
    base, _ = tiny_models.build("llama")
    base.name_or_path = base.config._name_or_path = "org/base"
    model = peft.get_peft_model(base, config)
    model.save_pretrained(folder)
    return model


class TestPeft:
    def test_prompt_tuning_folder(self, tmp_path):
        model = _adapter(tmp_path, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
        tokens = SpringTokens.load(tmp_path)
        assert torch.equal(tokens.embeddings, model.prompt_encoder["default"].embedding.weight.detach())
        assert tokens.metadata.backbone == "org/base"

    def test_old_bin_file(self, tmp_path):
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
        model = _adapter(tmp_path, config)
        (tmp_path / "adapter_model.safetensors").unlink()
        table = model.prompt_encoder["default"].embedding.weight.detach()
        torch.save({"prompt_embeddings": table}, tmp_path / "adapter_model.bin")
        assert torch.equal(SpringTokens.load(tmp_path).embeddings, table)

    def test_prefix_tuning_is_refused(self, tmp_path):
        _adapter(tmp_path, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
        with pytest.raises(TokensError, match=r"type PREFIX_TUNING; only PROMPT_TUNING"):
            SpringTokens.load(tmp_path)

    def test_folder_without_weights(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}')
        with pytest.raises(TokensError, match=r"no adapter_model\.safetensors"):
            SpringTokens.load(tmp_path)

    def test_damaged_config(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{")
        with pytest.raises(TokensError, match="not JSON"):
            SpringTokens.load(tmp_path)

    def test_folder_without_anything(self, tmp_path):
        with pytest.raises(TokensError, match=f"holds no virtual tokens: expected {FILE_NAME}"):
            SpringTokens.load(tmp_path)


class TestHub:
    @pytest.fixture
    def asked(self, monkeypatch, tokens_file):
        calls = []

        def download(repo, name, *, revision=None):
            calls.append((repo, name, revision))
            return str(tokens_file)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return calls

    @pytest.mark.parametrize(
        ("reference", "repo", "file"),
        [("org/repo", "org/repo", FILE_NAME), ("org/repo/sub/x.safetensors", "org/repo", "sub/x.safetensors")],
    )
    def test_reference(self, asked, random_tokens, reference, repo, file):
        tokens = SpringTokens.load(reference, revision="v1")
        assert asked == [(repo, file, "v1")]
        assert tokens.digest == random_tokens.digest

    @pytest.mark.parametrize(
        "path",
        ["tokens.pt", "/no/such/file", "./a/b", "~/nothing/here", "a//b", "runs/tokens.pt", "out/x.safetensors"],
    )
    def test_a_missing_file_is_not_looked_for_on_the_hub(self, asked, path):
        with pytest.raises(TokensError, match="no tokens file at") as caught:
            SpringTokens.load(path)
        assert repr(path) in str(caught.value)
        assert not asked

    def test_unreachable_hub(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(TokensError, match=r"'org/repo'.*no such local path.*check the spelling and the connection"):
            SpringTokens.load("org/repo")


def test_tokens_are_saved_into_a_folder(tmp_path: Path) -> None:
    saved = SpringTokens(torch.randn(3, 4)).save(tmp_path)
    assert saved.parent == tmp_path
    assert len(SpringTokens.load(tmp_path)) == 3
