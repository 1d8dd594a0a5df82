"""Answer metrics of open-domain question answering; each takes the best value over the accepted answers.

Text is compared as the official scripts compare it, without any Unicode normalisation: "é" as one
character and as two are different answers there, and so they are here. Where both a prediction and an
answer have no tokens left ("", or "The"), F1 is 1.0, as in the script of SQuAD 2.0; those of SQuAD 1.1
and TriviaQA give exact match 1 and F1 0 for it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TRIVIA_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))  # noqa: RUF001 - TriviaQA's quotes


def normalize_answer(text: str) -> str:
    """Returns the text in lower case without punctuation, articles and extra white space (SQuAD 1.1 script)."""
    return _without_articles(text.lower().translate(_PUNCTUATION))


def normalize_trivia_answer(text: str) -> str:
    """Returns the text as TriviaQA's script compares it: punctuation and curly quotes become spaces."""
    return _without_articles(text.lower().translate(_TRIVIA_PUNCTUATION))


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1.0 if the normalised prediction equals one of the normalised answers, else 0.0.

    Rajpurkar et al. 2016, section 6.1.

    Args:
        prediction: the answer that was given.
        answers: the accepted answers, at least one.

    >>> exact_match("The Nile.", ["nile", "river Nile"])
    1.0
    """
    return _best(_equal, normalize_answer, prediction, answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Returns the best token F1 of the prediction over the answers, in 0…1 (Rajpurkar et al. 2016, section 6.1).

    Args:
        prediction: the answer that was given.
        answers: the accepted answers, at least one.
    """
    return _best(_token_f1, normalize_answer, prediction, answers)


def trivia_exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Returns exact match under TriviaQA's own normalisation; `answers` holds the value and its aliases.

    Joshi et al. 2017, section 6.

    Args:
        prediction: the answer that was given.
        answers: the accepted answers, at least one.
    """
    return _best(_equal, normalize_trivia_answer, prediction, answers)


def trivia_f1(prediction: str, answers: Sequence[str]) -> float:
    """Returns token F1 under TriviaQA's own normalisation (Joshi et al. 2017, section 6).

    Args:
        prediction: the answer that was given.
        answers: the accepted answers, at least one.
    """
    return _best(_token_f1, normalize_trivia_answer, prediction, answers)


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1.0 if the prediction contains an answer as written, in lower case or capitalised, else 0.0.

    PopQA's criterion (Mallen et al. 2023, section 4.1, and their code). An empty answer is contained in nothing.

    Args:
        prediction: the answer that was given.
        answers: the accepted answers, at least one.
    """
    forms = (form for a in _checked(answers) if a for form in (a, a.lower(), a.capitalize()))
    return float(any(form in prediction for form in forms))


def contains(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1.0 if one of the normalised answers is in the normalised prediction as whole words, else 0.0.

    Beside exact match it tells whether a long answer is wrong, or right and only long. An answer with no words left
    is contained in a prediction with none.

    Args:
        prediction: the answer that was given.
        answers: the accepted answers, at least one.
    """
    return _best(_has_words, normalize_answer, prediction, answers)


METRICS: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "em": exact_match,
    "f1": f1,
    "accuracy": accuracy,
    "contains": contains,
    "trivia_em": trivia_exact_match,
    "trivia_f1": trivia_f1,
}
"""The metrics by the names that reports use; each maps a prediction and the accepted answers to 0…1."""


def _without_articles(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text).split())


def _best(
    score: Callable[[str, str], float], normalize: Callable[[str], str], prediction: str, answers: Sequence[str]
) -> float:
    predicted = normalize(prediction)
    return max(score(predicted, normalize(answer)) for answer in _checked(answers))


def _equal(prediction: str, answer: str) -> float:
    return float(prediction == answer)


def _has_words(prediction: str, answer: str) -> float:
    return float(f" {answer} " in f" {prediction} ") if answer else _equal(prediction, answer)


def _token_f1(prediction: str, answer: str) -> float:
    predicted, wanted = prediction.split(), answer.split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * shared / (len(predicted) + len(wanted))


def _checked(answers: Sequence[str]) -> Sequence[str]:
    if isinstance(answers, str) or not answers:
        msg = f"answers must be a non-empty list of strings, not {answers!r}"
        raise ValueError(msg)
    return answers
