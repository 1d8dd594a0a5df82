"""The exported tokenizer: the backbone's, with a special token for each virtual token."""

from __future__ import annotations

import copy
import os

from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from spring_integrations.errors import BackboneError

_FILLER = "<|spring-unused-{}|>"


def load_words(folder: str | os.PathLike[str], name: str) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a checkpoint.

    Raises:
        BackboneError: if it cannot be loaded.
    """
    try:
        words: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        msg = f"the tokenizer of {name!r} cannot be loaded: {error}"
        raise BackboneError(msg) from error
    return words


def with_references(words: PreTrainedTokenizerBase, n: int, first_id: int, name: str) -> PreTrainedTokenizerBase:
    """Returns a copy of a tokenizer that knows `[ref1]` to `[refn]`, with ids from `first_id` on.

    They are special tokens: matched before the text is normalised, so that no space is added or lost
    around them and no other spelling matches, and split off where text is read without special tokens.
    An embedding table can have more rows than the tokenizer has words; unused tokens fill the gap.

    Raises:
        BackboneError: if the tokenizer knows `[ref1]` already, or has more words than the table rows.
    """
    known = words.get_vocab()
    if taken := [text for text in references(n) if text in known]:
        msg = (
            f"the tokenizer of {name!r} already knows {taken[0]!r}: is it an export? Virtual tokens go on the "
            "backbone they were trained with"
        )
        raise BackboneError(msg)
    gap = first_id - (max(known.values()) + 1)
    if gap < 0:
        msg = f"the tokenizer of {name!r} has {-gap} words more than the embedding table has rows ({first_id})"
        raise BackboneError(msg)
    grown = copy.deepcopy(words)
    texts = [*(_FILLER.format(i) for i in range(1, gap + 1)), *references(n)]
    grown.add_tokens([AddedToken(text, normalized=False, special=True) for text in texts], special_tokens=True)
    got = [grown.get_vocab()[text] for text in references(n)]
    if got != list(range(first_id, first_id + n)):
        msg = (
            f"the tokenizer of {name!r} has {len(known)} words for the ids 0 to {max(known.values())}, so the virtual "
            f"tokens would get the ids {got[:3]}…, not {first_id} and the next; give every id a word in its "
            "tokenizer.json"
        )
        raise BackboneError(msg)
    return grown


def references(n: int) -> list[str]:
    """Returns the texts of the first n virtual tokens."""
    return [f"[ref{i}]" for i in range(1, n + 1)]
