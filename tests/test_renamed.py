"""Old names of the public API work for one release, and say what they are called now."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import spring_integrations
from spring_integrations import Passage, SpringModel, decoding
from spring_integrations.decoding import Seq2SeqModel
from spring_integrations.retrieval import BM25Index
from spring_integrations.runtime import model as runtime_model

OLD_MODULES = {
    "backbone": ("runtime.backbone", "Backbone"),
    "model": ("runtime.model", "SpringModel"),
    "generation": ("runtime.generation", "GenerationSettings"),
    "prompt": ("prompts", "RagPrompt"),
    "context_cache": ("runtime.context_cache", "ContextCache"),
}


@pytest.mark.parametrize("old", OLD_MODULES)
def test_an_old_module_is_the_new_one_and_warns(old: str) -> None:
    home, name = OLD_MODULES[old]
    sys.modules.pop(f"spring_integrations.{old}", None)
    with pytest.warns(
        DeprecationWarning, match=rf"spring_integrations\.{old} is now spring_integrations\.{home};"
    ) as seen:
        module = importlib.import_module(f"spring_integrations.{old}")
    assert len(seen) == 1
    new = importlib.import_module(f"spring_integrations.{home}")
    assert getattr(module, name) is getattr(new, name)
    assert new.__name__ == new.__spec__.name == f"spring_integrations.{home}"
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_the_warning_points_at_the_line_that_uses_the_old_name(tmp_path) -> None:
    script = tmp_path / "old.py"
    script.write_text(
        "import spring_integrations\nfrom spring_integrations.prompt import RagPrompt, MARK\nprint(MARK)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", str(script)], capture_output=True, text=True, check=True
    )
    assert "old.py:2: DeprecationWarning" in done.stderr


@pytest.mark.parametrize(
    ("owner", "old", "new"),
    [
        (runtime_model, "count_tokens", "resolve_k"),
        (decoding, "Method", "Decoding"),
    ],
)
def test_an_old_name_in_a_module(owner, old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"\.{old} is now .*\.{new};") as seen:
        assert getattr(owner, old) is getattr(owner, new)
    assert seen[0].filename == __file__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = owner.no_such_name


def test_an_old_attribute(spring_llama: SpringModel) -> None:
    with pytest.warns(DeprecationWarning, match=r"SpringModel\.shared is now SpringModel\.frozen;") as seen:
        assert spring_llama.shared is spring_llama.frozen
    assert seen[0].filename == __file__
    assert "shared" in vars(Seq2SeqModel)


def test_an_unknown_module_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        importlib.import_module("spring_integrations.no_such_module")
    assert not {*OLD_MODULES} & {*spring_integrations.__all__}


def test_passages_asked_for_by_their_old_name_are_found_with_a_warning() -> None:
    index = BM25Index.build([Passage("a wide lake"), Passage("a lake")])
    with pytest.warns(DeprecationWarning, match=r"BM25Index\.search\(k=…\) is now top=…") as seen:
        found = index.search("lake", k=1)
    assert (len(seen), seen[0].filename) == (1, __file__)
    assert found == index.search("lake", top=1)
    with pytest.raises(TypeError, match="unexpected"):
        index.search("lake", 1, n=2)
