"""Structured output of a LangChain chat model: what it is asked for, and its answer as an object."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ValidationError

from spring_integrations._choices import check_choice
from spring_integrations.chat.tool_calls import json_object

StructuredMethod = Literal["function_calling", "json_schema", "json_mode"]


def structured(
    model: BaseChatModel,
    schema: dict[str, Any] | type,
    *,
    method: StructuredMethod,
    include_raw: bool,
    strict: bool,
    settings: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Returns the runnable of `ChatSpringHF.with_structured_output`, whose arguments these are."""
    check_choice("method", method, StructuredMethod)
    traced: dict[str, Any] = {
        "ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}
    }
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        asked = model.bind_tools([schema], tool_choice=name, **traced, **settings)
    elif method == "json_schema":
        asked = model.bind(json_schema=_json_schema(schema), **traced, **settings)
    else:
        asked = model.bind(**traced, **settings)

    def parse(message: AIMessage) -> Any:
        return _checked(_found(message, method), schema, message, strict=strict)

    if not include_raw:
        return asked | RunnableLambda(parse)
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | RunnableLambda(parse), parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=asked) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _found(message: AIMessage, method: StructuredMethod) -> dict[str, Any]:
    if method == "function_calling":
        found = message.tool_calls[0]["args"] if message.tool_calls else None
    else:
        found = json_object(message.text)
    if found is None:
        finish = message.response_metadata.get("finish_reason")
        hint = "; it ended at max_new_tokens" if finish == "length" else ""
        wrote = message.text or [call["args"] for call in message.invalid_tool_calls]
        msg = f"the model wrote no JSON object that was asked for{hint}, but {wrote!r}"
        raise OutputParserException(msg, llm_output=message.text)
    return found


def _checked(found: dict[str, Any], schema: Any, message: AIMessage, *, strict: bool) -> Any:
    try:
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            validate = getattr(schema, "model_validate", None) or schema.parse_obj  # type: ignore[attr-defined]
            return validate(found)
    except (ValidationError, ValueError) as error:
        msg = f"the model's object {found!r} is no {schema.__name__}: {error}"
        raise OutputParserException(msg, llm_output=message.text) from error
    wanted = _json_schema(schema)
    known, required = set(wanted.get("properties", {})), set(wanted.get("required", ()))
    if strict and not required <= set(found) <= known:
        msg = f"the model's object {found!r} has not the keys of the schema: {', '.join(sorted(known))}"
        raise OutputParserException(msg, llm_output=message.text)
    return found


def _json_schema(schema: dict[str, Any] | type) -> dict[str, Any]:
    # LangChain's function wants a title, which a JSON schema need not have.
    return schema if isinstance(schema, dict) and "properties" in schema else convert_to_json_schema(schema)
