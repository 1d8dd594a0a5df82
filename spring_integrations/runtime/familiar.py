"""Arguments by the names that other libraries have for them: taken, or answered with the name to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spring_integrations.errors import SettingsError
from spring_integrations.runtime.loading import LoadArguments, LoadOptions
from spring_integrations.runtime.settings import GenerationSettings

_OURS = {
    "max_tokens": "max_new_tokens",
    "max_tokens_to_sample": "max_new_tokens",
    "max_output_tokens": "max_new_tokens",
    "stop_sequences": "stop",
}
_LOADING = set(LoadArguments.__annotations__) - set(LoadOptions.__dataclass_fields__)
_GROUPS = ("pipeline_kwargs", "generate_kwargs", "model_kwargs")
_ANSWERS = {
    "model_name": "model_id, the first argument",
    "tokenizer_name": "model_id: the tokenizer comes with the model",
    "tokenizer": "model=SpringModel(model, tokenizer, tokens)",
    "pipeline": "model=SpringModel(pipeline.model, pipeline.tokenizer, tokens)",
    "max_length": "max_new_tokens, which does not count the prompt",
    "do_sample": "temperature, which is 0 for greedy answers",
    "context_window": "nothing: it is read from the model",
    "query_wrapper_prompt": "messages_to_prompt, or leave it to the chat template",
    "batch_size": "nothing: prompts run together as memory allows",
    "tokenizer_kwargs": "model=SpringModel(model, tokenizer, tokens)",
}


def translated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by our names.

    Args:
        settings: of a model or of a call, by our names or by those of transformers, LangChain and LlamaIndex.

    Raises:
        SettingsError: for a name of theirs that has no counterpart here, with what to give instead; or if one setting
            is given by two names.
    """
    found = dict(settings)
    for group in _GROUPS:
        if group in found:
            held = translated(found[group] or {})
            known = {**GenerationSettings.__dataclass_fields__, **LoadOptions.__dataclass_fields__}
            inside = ", ".join(f"{name}={value!r}" for name, value in held.items() if name in known)
            msg = f"{group} is not taken; give what it holds by name" + (f": {inside}" if inside else "")
            raise SettingsError(msg)
    if answered := [name for name in _ANSWERS if name in found]:
        msg = "; ".join(f"{name} is not taken, use {_ANSWERS[name]}" for name in answered)
        raise SettingsError(msg)
    for name, ours in _OURS.items():
        if name in found:
            value = found.pop(name)
            if found.get(ours) not in (None, value):
                msg = f"{name}={value!r} and {ours}={found[ours]!r} say different things; give {ours} alone"
                raise SettingsError(msg)
            found[ours] = value
    if theirs := _LOADING & set(found):
        named = {n: found.pop(n) for n in (*theirs, *LoadOptions.__dataclass_fields__) if n in found}
        options = LoadOptions.of(named)
        found |= {n: v for n, v in vars(options).items() if n in named or v != getattr(LoadOptions, n)}
    return found
