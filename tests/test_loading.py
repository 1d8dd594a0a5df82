"""Every model of this package is loaded by the same options, whatever another library calls them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from spring_integrations import SpringModel, SpringTokens
from spring_integrations.decoding import Seq2SeqModel
from spring_integrations.errors import BackboneError, SettingsError, TokensError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.loading import LoadArguments, LoadOptions, check_devices
from spring_integrations.training import load_trained


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", torch.bfloat16])
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_a_dtype_has_many_spellings(llama_folder: Path, name: str, dtype: object) -> None:
    assert Backbone.load(str(llama_folder), **{name: dtype}).model.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["fp17", "int8", torch.int8, "Tensor", "nn", 16, None, "float8_e4m3fn"])
def test_a_dtype_that_is_none_is_refused(llama_folder: Path, dtype: object) -> None:
    with pytest.raises(SettingsError, match=r"dtype=.* is not a type of weights; give 'auto'"):
        Backbone.load(str(llama_folder), dtype=dtype)


@pytest.mark.parametrize(
    ("given", "place"),
    [({"device": "cpu"}, "cpu"), ({"device": -1}, "cpu"), ({"device": torch.device("cpu")}, torch.device("cpu")),
     ({"device": 1}, "cuda:1"), ({"device_map": 0}, "cuda:0"), ({"device_map": {"": "cpu"}}, {"": "cpu"}), ({}, None)],
    ids=str,
)  # fmt: skip
def test_a_device_is_a_device_map(given: dict, place: object) -> None:
    assert LoadOptions.of(given).device_map == place


@pytest.mark.parametrize(
    "place", ["cuda", "cuda:0", 0, torch.device("cuda"), {"": "cuda:0"}, "xpu", "mps", "everywhere"]
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_a_backbone_error(llama_folder: Path, place: object) -> None:
    for load in (Backbone.load, SpringModel.from_pretrained):
        with pytest.raises(BackboneError, match=r"device_map=.*(sees none here|names no device).*'cpu'") as raised:
            load(str(llama_folder), device_map=place)
        assert isinstance(raised.value, OSError)


def test_a_card_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices({"a": "cuda:1", "b": "cpu", "c": "disk"})
    with pytest.raises(BackboneError, match=r"asks for cuda:7, but torch .* sees 2 of them"):
        check_devices("cuda:7")


@pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])
def test_bits_name_the_package_that_they_need(llama_folder: Path, name: str) -> None:
    with pytest.raises(BackboneError, match=f"{name}=True needs the package bitsandbytes"):
        Backbone.load(str(llama_folder), **{name: True})
    assert Backbone.load(str(llama_folder), **{name: False}).window == 512


def test_an_option_cannot_be_given_twice_or_unknown(llama_folder: Path) -> None:
    with pytest.raises(SettingsError, match="torch_dtype='float16' and dtype='bfloat16' say different things"):
        Backbone.load(str(llama_folder), dtype="bfloat16", torch_dtype="float16")
    assert LoadOptions.of({"dtype": "float16", "torch_dtype": "float16"}).dtype == "float16"
    with pytest.raises(SettingsError, match="unknown options to load a backbone: dtypo; known are dtype, device_map"):
        Backbone.load(str(llama_folder), dtypo="float16")


def test_a_missing_kernel_is_a_backbone_error(llama_folder: Path) -> None:
    with pytest.raises(BackboneError, match=r"flash_attn|FlashAttention|flash attention"):
        Backbone.load(str(llama_folder), attn_implementation="flash_attention_2")


def test_every_loader_takes_every_option(llama_folder: Path, tokens_file: Path) -> None:
    how = {"torch_dtype": "bfloat16", "device": "cpu", "attn_implementation": "eager", "trust_remote_code": False}
    loaded = (
        Backbone.load(str(llama_folder), **how).model,
        SpringModel.from_pretrained(str(llama_folder), tokens_file, **how).backbone,
        load_trained(str(llama_folder), tokens_file, **how).backbone,
    )
    assert {(model.dtype, model.config._attn_implementation) for model in loaded} == {(torch.bfloat16, "eager")}
    with pytest.raises(BackboneError, match="is not an encoder-decoder"):
        Seq2SeqModel.from_pretrained(str(llama_folder), tokens_file, **how)
    assert set(LoadOptions.__dataclass_fields__) < set(LoadArguments.__annotations__)


class TestTokensOfTheVeryBackbone:
    def names(self, folder: Path, tmp_path: Path) -> list[str]:
        link = tmp_path / "elsewhere"
        link.symlink_to(folder)
        return [
            str(folder),
            f"{folder}/",
            str(link),
            f"{folder.parent}/../{folder.parent.name}/{folder.name}",
            folder.name,
        ]

    def test_no_warning_whatever_the_folder_is_called(
        self, llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = self.names(llama_folder, tmp_path)
        for loaded in names[:4]:
            backbone = Backbone.load(loaded)
            for named in names:
                SpringModel(backbone, tokens=random_tokens.with_metadata(backbone=named), on_other_backbone="error")
        assert not caplog.text

    def test_a_snapshot_of_the_hub_is_the_model_of_that_id(
        self, llama_folder: Path, random_tokens: SpringTokens, tmp_path: Path
    ) -> None:
        snapshot = tmp_path / "models--org--tiny-7b" / "snapshots" / "abc123"
        shutil.copytree(llama_folder, snapshot)
        backbone = Backbone.load(str(snapshot))
        for named in ("org/tiny-7b", "tiny-7b", str(snapshot)):
            SpringModel(backbone, tokens=random_tokens.with_metadata(backbone=named), on_other_backbone="error")
        for other in ("org/other-7b", "other", str(tmp_path), "org"):
            with pytest.raises(TokensError, match="they name"):
                SpringModel(backbone, tokens=random_tokens.with_metadata(backbone=other), on_other_backbone="error")
