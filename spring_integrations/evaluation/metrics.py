"""Answer metrics of open-domain question answering: exact match and token F1.

Both follow the official SQuAD 1.1 script (Rajpurkar et al. 2016, section 6.1): lower case, no
punctuation, no articles, single spaces; the best value over the reference answers counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Returns the text in lower case without punctuation, articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1.0 if the normalised prediction equals one of the normalised answers, else 0.0."""
    _check(answers)
    return float(any(normalize_answer(prediction) == normalize_answer(a) for a in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Returns the best token F1 of the prediction over the answers, in 0…1."""
    _check(answers)
    return max(_f1(normalize_answer(prediction).split(), normalize_answer(a).split()) for a in answers)


def _f1(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    shared = sum((Counter(prediction) & Counter(answer)).values())
    return 2 * shared / (len(prediction) + len(answer))


def _check(answers: Sequence[str]) -> None:
    if isinstance(answers, str) or not answers:
        msg = f"answers must be a non-empty list of strings, not {answers!r}"
        raise ValueError(msg)
