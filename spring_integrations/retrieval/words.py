"""Words of all languages for BM25: folded alike in questions and passages, with or without spaces between them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from spring_integrations._optional import require
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.text import storable

Tokenizer = Callable[[str], Iterable[str]]
"""Takes a text and returns its words, ready to be compared."""

DEFAULT_LANGUAGE = "en"
_STOP_WORDS = {
    "da": "DANISH",
    "de": "GERMAN",
    "en": "EN",
    "es": "SPANISH",
    "fr": "FRENCH",
    "it": "ITALIAN",
    "ko": "KOREAN",
    "nl": "DUTCH",
    "no": "NORWEGIAN",
    "pt": "PORTUGUESE",
    "ru": "RUSSIAN",
    "sv": "SWEDISH",
    "tr": "TURKISH",
    "zh": "CHINESE",
}
_STEMMERS = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
_NO_RESOURCES = {"ja", "km", "lo", "my", "th"}  # languages that are read without either
# Scripts whose words have no spaces between them, and Hangul, whose words have many endings, as Lucene's CJKAnalyzer.
_SCRIPTS = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
_SPACELESS = "".join(rf"\p{{{script}}}" for script in _SCRIPTS)
_PROBE = "The cafés of Zürich: IŞIK, Straße, ﬁne; 東京タワーは高い。 서울의 봄 กรุงเทพ القَاهِرَة हिन्दी Москвы"
_ARABIC = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي"})  # letters that are written one for another
_KNOWN: dict[str, Tokenizer] = {}  # tokenizers given in this process, by the name that an index keeps


@dataclass(frozen=True)
class Words:
    """How texts become words.

    Attributes:
        language: code of the language whose stop words are left out, "en" or another; "" leaves none out.
        stemmer: whether words are cut to their stems by the rules of that language (needs PyStemmer).
        tokenizer: takes the place of all of it; it is given questions and passages as they are.
    """

    language: str = DEFAULT_LANGUAGE
    stemmer: bool = False
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        """Raises SettingsError for an unknown language, or one that has no stemmer."""
        if self.tokenizer is not None:
            if not callable(self.tokenizer):
                msg = f"tokenizer={self.tokenizer!r} must be a function that takes a text and returns its words"
                raise SettingsError(msg)
            _KNOWN[self.name] = self.tokenizer
        known = {"", *_STOP_WORDS, *_STEMMERS, *_NO_RESOURCES}
        if self.language not in known:
            choices = ", ".join(sorted(known - {""}))
            msg = f"language={self.language!r} is not known; choose one of {choices}, or '' for none"
            raise SettingsError(msg)
        if self.stemmer and self.language not in _STEMMERS:
            msg = f"language={self.language!r} has no stemmer; those of {', '.join(sorted(_STEMMERS))} have one"
            raise SettingsError(msg)

    @property
    def name(self) -> str:
        """The name of the tokenizer, "" if it is ours."""
        if self.tokenizer is None:
            return ""
        kind = self.tokenizer if hasattr(self.tokenizer, "__qualname__") else type(self.tokenizer)
        return f"{kind.__module__}:{kind.__qualname__}"

    def of_passages(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Yields the words of each passage: those of a large corpus are many times its size."""
        return self._split(texts, alone=True)

    def of_queries(self, texts: Iterable[str]) -> list[list[str]]:
        """Returns the words of questions, which are looked up among those of passages."""
        return list(self._split(texts, alone=False))

    def as_settings(self) -> dict[str, Any]:
        """Returns what an index keeps of this, the words of a sample among it."""
        (sample,) = self.of_passages([_PROBE])
        return {"language": self.language, "stemmer": self.stemmer, "tokenizer": self.name, "sample": sample}

    @classmethod
    def from_settings(cls, kept: dict[str, Any], tokenizer: Tokenizer | None) -> Words:
        """Returns how the words of an index were made.

        Args:
            kept: what `as_settings` returned.
            tokenizer: the index's own; None takes one of that name that was given in this process. No code
                is ever loaded because an index names it.

        Raises:
            DataError: if the tokenizer is missing, or splits a sample into other words.
        """
        name = kept["tokenizer"]
        found = tokenizer or _KNOWN.get(name)
        if name and found is None:
            msg = f"the words of this index were made by {name}: give it as tokenizer="
            raise DataError(msg)
        if found is not None and not name:
            msg = "this index was made without a tokenizer of one's own: leave tokenizer= out"
            raise DataError(msg)
        words = cls(kept["language"], kept["stemmer"], found)
        if words.as_settings()["sample"] != kept["sample"]:
            by = f"the tokenizer {words.name}" if found else "this version of the package or of its libraries"
            msg = f"{by} splits texts into other words than those of the index; build the index again with it"
            raise DataError(msg)
        return words

    def _split(self, texts: Iterable[str], *, alone: bool) -> Iterator[list[str]]:
        if self.tokenizer is not None:
            yield from ([storable(word) for word in self.tokenizer(storable(text)) if word] for text in texts)
            return
        stop_words = _stop_words(self.language)
        stem = _stemmer(self.language) if self.stemmer else None
        for text in texts:
            words = [word for word in _words(self._folded(text), alone=alone) if word not in stop_words]
            yield stem(words) if stem else words

    def _folded(self, text: str) -> str:
        if self.language == "tr":
            text = text.replace("I", "ı").replace("İ", "i")
        return fold(text)


def fold(text: str) -> str:
    """Returns a text as it is compared: no case, no ligatures, full widths, vowel points or invisible characters.

    Accents count, however they are encoded.
    """
    text = storable(text)
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    ignored, dotted = _patterns()[1:]
    return dotted.sub("i", ignored.sub("", text)).translate(_ARABIC)


@cache
def _patterns() -> tuple[Any, Any, Any]:
    """Returns what finds runs of letters, characters that do not count, and a dotted i that lost its capital."""
    regex = require("regex", extra="retrieval")
    spaceless = rf"(?:[{_SPACELESS}ー々]\p{{M}}*)+"
    spaced = rf"(?:(?![{_SPACELESS}ー々])[\p{{L}}\p{{N}}_]\p{{M}}*)+"
    points = r"[\p{Arabic}\p{Hebrew}]&&\p{M}"
    ignored = rf"(?V1)[\p{{Default_Ignorable_Code_Point}}ـ]|[{points}]|[\u064b-\u065f\u0670]"
    return regex.compile(f"({spaceless})|({spaced})"), regex.compile(ignored), regex.compile("i\u0307")


def _words(text: str, *, alone: bool) -> list[str]:
    """Returns words, and overlapping pairs of characters where there are no spaces.

    Args:
        text: folded.
        alone: whether the characters of such pairs are words too, so that a question of one finds them.
    """
    found: list[str] = []
    for spaceless, spaced in _patterns()[0].findall(text):
        if spaced:
            found += [spaced] if len(spaced) > 1 or not ("a" <= spaced <= "z") else []
            continue
        characters = _characters(spaceless)
        if alone or len(characters) == 1:
            found += characters
        found += [first + second for first, second in pairwise(characters)]
    return found


def _characters(text: str) -> list[str]:
    """Returns characters with the vowel signs and accents that belong to them."""
    found: list[str] = []
    for character in text:
        if found and unicodedata.category(character).startswith("M"):
            found[-1] += character
        else:
            found.append(character)
    return found


@cache
def _stop_words(language: str) -> frozenset[str]:
    if language not in _STOP_WORDS:
        return frozenset()
    words: Sequence[str] = getattr(require("bm25s.stopwords", extra="retrieval"), f"STOPWORDS_{_STOP_WORDS[language]}")
    return frozenset(map(fold, words))


def _stemmer(language: str) -> Callable[[list[str]], list[str]]:
    # One for each call: a stemmer serves one thread.
    stem: Callable[[list[str]], list[str]] = require("Stemmer", extra="stemming").Stemmer(_STEMMERS[language]).stemWords
    return stem
