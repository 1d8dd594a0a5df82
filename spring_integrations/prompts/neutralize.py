"""Retrieved text made harmless: it can neither move the boundary nor open a chat role."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spring_integrations.prompts.marks import BOUNDARY, CONTROL, MARK, MARKS, START
from spring_integrations.text import storable

INVISIBLE = "\u2060"  # WORD JOINER: breaks up control text without showing
_REFERENCE = re.compile(r"\[ref\d+\]")
_FORM = re.compile(r"<(?=[^<>\s\u2060][^<>\n]{0,60}>)|\[(?=/?[A-Za-z_][A-Za-z_0-9 ]{0,60}\])|@@(?=\w)|<(?=<)")


def neutralize(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Makes retrieved text harmless: it can neither move the boundary nor open a chat role.

    Marks are removed; `[refN]`, common control tokens and `special_tokens` get an invisible
    character inside, so that tokenizers read them as plain text. Applying it twice changes nothing.

    Args:
        text: of a passage.
        special_tokens: of the model's tokenizer, such as "</s>".
    """
    text = storable(text)
    for mark in (START, MARK, BOUNDARY, MARK[0]):
        text = text.replace(mark, "")
    text = CONTROL.sub(lambda m: _split_up(m.group()), text)
    for token in special_tokens:
        if len(token.strip()) > 1:
            text = text.replace(token, _split_up(token))
    return text


def neutralize_label(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Returns a title, a source or another label made harmless; it is outside the marks of a passage.

    No tokenizer is at hand where it is, so whatever has the form of a control token is broken up.

    Args:
        text: the label.
        special_tokens: the tokenizer's, if they are known.
    """
    return _FORM.sub(lambda m: _split_up(m.group()), neutralize(text, special_tokens))


def neutralize_marked(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Returns the neutralised text with its marks.

    Args:
        text: of a passage.
        special_tokens: of the model's tokenizer, such as "</s>".
    """
    return "".join(p if i % 2 else neutralize(p, special_tokens) for i, p in enumerate(MARKS.split(text)))


def mark_passage(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Returns the neutralised text between marks of its start and its end.

    Args:
        text: of a passage.
        special_tokens: of the model's tokenizer, such as "</s>".
    """
    return START + neutralize(text, special_tokens) + MARK


def break_references(text: str) -> str:
    """Returns the text with an invisible character in every `[refN]`: only `token_text` means tokens."""
    return _REFERENCE.sub(lambda m: _split_up(m.group()), text)


def _split_up(token: str) -> str:
    return token[0] + INVISIBLE + token[1:]
