"""The fields of the adapters are those of the dataclasses that hold the defaults, with the same defaults."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from spring_integrations import SpringModel, langchain, llama_index
from spring_integrations.prompts.served_text import ServedTokens
from spring_integrations.runtime.adapters import RULES
from spring_integrations.runtime.loading import LoadOptions
from spring_integrations.runtime.settings import GenerationSettings

SETTINGS = [field for owner in (GenerationSettings, LoadOptions) for field in dataclasses.fields(owner)]
LOADING = {field.name for field in dataclasses.fields(LoadOptions)}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda field: field.name)
def test_a_setting_has_one_default(setting: dataclasses.Field[Any]) -> None:
    for adapter in (langchain.SpringHFLLM, langchain.ChatSpringHF):
        field = adapter.model_fields[setting.name]
        assert field.default == setting.default
        assert bool(field.frozen) == (setting.name in LOADING)
    field = llama_index.SpringHFLLM.model_fields[setting.name]
    assert field.default is None, "which leaves it to the model, or to the dataclass"
    assert bool(field.frozen) == (setting.name in LOADING)


@pytest.mark.parametrize("name", ["k", *RULES])
def test_a_rule_has_the_models_default(name: str) -> None:
    default = inspect.signature(SpringModel).parameters[name].default
    assert langchain.SpringHFLLM.model_fields[name].default == default
    assert llama_index.SpringHFLLM.model_fields[name].default is None
    for served in (langchain.SpringServedLLM, llama_index.SpringServedLLM):
        if name in served.model_fields and name != "k":
            assert served.model_fields[name].default == getattr(ServedTokens, name) == default


def test_what_a_given_model_holds_is_shown_and_overridden(spring_llama: SpringModel) -> None:
    held = spring_llama.with_changes(
        k=3, settings=GenerationSettings(max_new_tokens=5, stop=("x",)), on_too_long="error", boundary_rule="Ask:"
    )
    shown = langchain.SpringHFLLM(model=held, temperature=0.5)
    assert (shown.k, shown.max_new_tokens, shown.stop, shown.temperature) == (3, 5, ("x",), 0.5)
    assert (shown.on_too_long, shown.boundary_rule, shown.model) == ("error", held.boundary_rule, held)
    own = langchain.SpringHFLLM(model=held, k=None, stop=None, boundary_rule=None, on_too_long="warn")
    assert (own.k, own.stop, own.boundary_rule, own.on_too_long) == (3, (), None, "warn")
