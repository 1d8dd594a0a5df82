"""A package brings a model under a name by an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from spring_integrations import SpringModel
from spring_integrations.errors import BackboneError
from spring_integrations.runtime import named
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.named import GROUP, NamedModel, model_names, named_model

TINY: NamedModel  # set by the fixture; the entry point names it as a package would


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, llama_folder: Path, tokens_file: Path) -> str:
    calls = EntryPoints([EntryPoint("tiny", f"{__name__}:TINY", GROUP)])
    monkeypatch.setattr(named, "entry_points", calls.select)
    monkeypatch.setitem(globals(), "TINY", NamedModel(lambda: llama_folder, tokens_file))
    return "tiny"


def test_a_name_brings_weights_and_tokens(tiny: str) -> None:
    model = SpringModel.from_pretrained(tiny)
    assert (model.name, model.k) == ("tiny", 8)
    assert model.generate("a question", max_new_tokens=2)[0].completion_tokens > 0


def test_dtype_and_own_tokens_are_honoured(tiny: str, tmp_path: Path) -> None:
    own = SpringModel.from_pretrained(tiny).tokens.first(3).save(tmp_path / "own.safetensors")
    model = SpringModel.from_pretrained(tiny, own, dtype=torch.float16)
    assert (model.k, model.backbone.dtype) == (3, torch.float16)


def test_the_weights_are_asked_for_only_when_they_are_loaded(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Path:
        msg = "no weights here"
        raise BackboneError(msg)

    monkeypatch.setitem(globals(), "TINY", NamedModel(nothing))
    assert named_model(tiny).tokens is None
    with pytest.raises(BackboneError, match="no weights here"):
        Backbone.load(tiny)


def test_other_names_stay_what_they_are(tiny: str, llama_folder: Path) -> None:
    assert model_names() == ["tiny"]
    assert named_model(str(llama_folder)) is None
    assert SpringModel.from_pretrained(str(llama_folder)).k == 0


def test_this_package_brings_the_demo() -> None:
    from spring_integrations.demo.model import DEMO

    assert named_model("demo") is DEMO
