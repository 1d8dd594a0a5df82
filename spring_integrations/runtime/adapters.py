"""What the models of every framework do with their fields: a `SpringModel` of them, and what a call is to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spring_integrations.errors import SettingsError
from spring_integrations.runtime.familiar import translated
from spring_integrations.runtime.loading import LoadOptions
from spring_integrations.runtime.model import SpringModel
from spring_integrations.runtime.same_backbone import weights_digest
from spring_integrations.runtime.settings import GenerationSettings

GENERATION = tuple(GenerationSettings.__dataclass_fields__)
PER_CALL = ("k", *GENERATION)
RULES = ("boundary_rule", "on_missing_boundary", "on_too_long", "context_cache")
_LOADING = {name: field.default for name, field in LoadOptions.__dataclass_fields__.items()}


def given_or_loaded(adapter: Any, model: SpringModel | None) -> SpringModel:
    """Returns the model that was given, or loads the one that the adapter's fields describe.

    Args:
        adapter: has `model_id`, `tokens_path` and the fields of `LoadOptions`; None in one of them is the default.
        model: what was given.

    Raises:
        SettingsError: if there is no model, or both a loaded one and how to load another.
        BackboneError: if the backbone cannot be loaded.
        TokensError: if the tokens cannot be loaded or do not fit.
    """
    names = ("model_id", "tokens_path", *_LOADING)
    held = {name: getattr(adapter, name) for name in names}
    how = {name: value for name, value in held.items() if value not in (None, "", _LOADING.get(name))}
    if model is None:
        if not held["model_id"]:
            kind = type(adapter).__name__
            msg = f"no model: give a backbone, {kind}('demo'), or a loaded one, {kind}(model=spring_model)"
            raise SettingsError(msg)
        return SpringModel.from_pretrained(**how)
    # LangChain rebuilds a configurable model from all of its fields, with the model that they loaded.
    loaded_with = {name: value for name, value in (model.loaded_with or {}).items() if value is not None}
    if how and loaded_with != how:
        msg = f"model={model.name!r} is loaded already, so {', '.join(how)} cannot be given with it; leave one out"
        raise SettingsError(msg)
    return model


def call_settings(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns k and generation settings for a call.

    Args:
        own: those of the adapter.
        changes: those of the call, which win, by our names or those of other libraries.

    Raises:
        SettingsError: for a name that no call can set.
    """
    named = translated(changes)
    if unknown := sorted(set(named) - set(PER_CALL)):
        msg = f"a call cannot set {', '.join(unknown)}; it can set {', '.join(PER_CALL)}"
        raise SettingsError(msg)
    return {**own, **named}


def check_loadable(adapter: Any) -> None:
    """Raises SettingsError for an adapter that is to be pickled and whose weights have no place to load from."""
    if not adapter.model_id:
        kind = type(adapter).__name__
        msg = f"{kind}(model=…) has no place to load its weights from, so it cannot be pickled; make it from an id"
        raise SettingsError(msg)


def identity(model: SpringModel) -> dict[str, Any]:
    """Returns what tells this model's answers from another's, apart from what a call can set, as plain values."""
    config = model.backbone.config
    rule = model.boundary_rule
    quantization = getattr(config, "quantization_config", None)
    return {
        "model": model.name,
        "revision": getattr(config, "_commit_hash", None),
        "dtype": str(model.backbone.dtype),
        "quantization": None if quantization is None else str(quantization),
        "attn_implementation": getattr(config, "_attn_implementation", None),
        "weights": weights_digest(model.backbone),
        "tokens": None if model.tokens is None else model.tokens.digest,
        "boundary_rule": None if rule is None else rule.pattern.pattern,
        "on_missing_boundary": model.on_missing_boundary,
        "on_too_long": model.on_too_long,
    }
