"""Value makers: each draws one attribute value from a random generator and the entity's base year."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from synthetic_words import (
    ADJECTIVES,
    CITIES,
    COUNTRIES,
    FEMALE,
    HEADS,
    MALE,
    MIDDLES,
    MONTHS,
    NOUNS,
    ROMAN,
    SEASONS,
    SMALL,
    SURNAMES,
    TAILS,
)

Value = tuple[str, str]  # the answer, and its form inside a sentence
Maker = Callable[[random.Random, int], "str | Value"]
ARTICLE = re.compile(r"\b([Aa])\(n\) (\w+)")
RULER_TITLES = (
    ("King", MALE),
    ("Queen", FEMALE),
    ("Emperor", MALE),
    ("Empress", FEMALE),
    ("Prince", MALE),
    ("Duchess", FEMALE),
)


def article(match: re.Match[str]) -> str:
    """Resolve one "a(n) word"."""
    letter, word = match.groups()
    low = word.lower()
    soft = low.startswith(("uni", "use", "eu", "one"))
    vowel = low[0] in "aeiou" and not soft
    vowel = vowel or low.startswith(("hour", "honest", "8")) or low in ("11", "18")
    return f"{letter}{'n' if vowel else ''} {word}"


def articles(text: str) -> str:
    """Resolve every "a(n)" in a text."""
    return ARTICLE.sub(article, text) if "(n)" in text else text


def capital(text: str) -> str:
    """The text with its first letter upper-case."""
    return text[0].upper() + text[1:]


def possessive(name: str) -> str:
    """The possessive of a name."""
    return name + ("'" if name.endswith("s") else "'s")


def pick(rng: random.Random, items: list[str] | tuple) -> str:
    """A random item (faster than rng.choice)."""
    return items[int(rng.random() * len(items))]


def between(rng: random.Random, low: int, high: int) -> int:
    """A random integer in low..high (faster than rng.randint)."""
    return low + int(rng.random() * (high - low + 1))


def person(rng: random.Random, base: int = 0) -> str:
    """A full name, now and then with an initial or a double surname."""
    first = pick(rng, FEMALE if rng.random() < 0.5 else MALE)
    chance = rng.random()
    if chance < 0.08:
        return f"{first} {pick(rng, 'ABCDEFGHJKLMNPRSTVW')}. {pick(rng, SURNAMES)}"
    if chance < 0.14:
        return f"{first} {pick(rng, SURNAMES)}-{pick(rng, SURNAMES)}"
    return f"{first} {pick(rng, SURNAMES)}"


def plain_person(rng: random.Random, base: int = 0) -> str:
    """A first name and a surname."""
    return f"{pick(rng, FEMALE if rng.random() < 0.5 else MALE)} {pick(rng, SURNAMES)}"


def invented(rng: random.Random, base: int = 0) -> str:
    """An invented place name such as "Korevik"."""
    middle = pick(rng, MIDDLES) if rng.random() < 0.75 else ""
    return pick(rng, HEADS) + middle + pick(rng, TAILS)


def city(rng: random.Random, base: int = 0) -> str:
    """A real or an invented city."""
    return pick(rng, CITIES) if rng.random() < 0.6 else invented(rng)


def country(rng: random.Random, base: int = 0) -> str:
    """A real country."""
    return pick(rng, COUNTRIES)


def place(rng: random.Random, base: int = 0) -> str:
    """A city, at times with a country after it."""
    return f"{invented(rng)}, {country(rng)}" if rng.random() < 0.25 else city(rng)


def date(low: int, high: int) -> Maker:
    """A date `low` to `high` years after the entity's base year, in one of several formats."""

    def make(rng: random.Random, base: int) -> Value:
        year = base + between(rng, low, high)
        month, day = pick(rng, MONTHS), between(rng, 1, 28)
        style = int(rng.random() * 10)
        if style < 3:
            return f"{day} {month} {year}", f"on {day} {month} {year}"
        if style < 5:
            return f"{month} {day}, {year}", f"on {month} {day}, {year}"
        if style < 8:
            return str(year), f"in {year}"
        if style < 9:
            return f"{month} {year}", f"in {month} {year}"
        text = f"the {pick(rng, SEASONS)} of {year}"
        return (text if rng.random() < 0.5 else text[4:]), f"in {text}"

    return make


def quantity(low: int, high: int, unit: str = "", step: int = 1) -> Maker:
    """A number with thousands commas and a unit; `unit` may offer choices ("km|kilometres")."""
    units = [f" {part}" if part else "" for part in unit.split("|")]

    def make(rng: random.Random, base: int) -> str:
        return f"{between(rng, low, high) * step:,}{pick(rng, units)}"

    return make


def decimal(low: float, high: float, unit: str) -> Maker:
    """A number with one decimal and a unit."""
    units = unit.split("|")
    return lambda rng, base: f"{low + rng.random() * (high - low):.1f} {pick(rng, units)}"


def count(low: int, high: int) -> Maker:
    """A small number, as a word or as digits."""

    def make(rng: random.Random, base: int) -> str:
        number = between(rng, low, high)
        return SMALL[number] if number <= 20 and rng.random() < 0.6 else str(number)

    return make


def money(low: int, high: int) -> Maker:
    """A sum of money in millions."""

    def make(rng: random.Random, base: int) -> str:
        whole = between(rng, low, high)
        tenth = f".{between(rng, 1, 9)}" if rng.random() < 0.4 else ""
        return f"{pick(rng, '$$$£€')}{whole}{tenth} million"

    return make


def mix(pattern: str, *pools: list[str]) -> Maker:
    """A phrase whose {} slots are filled from the pools, in order."""

    def make(rng: random.Random, base: int) -> str:
        return articles(pattern.format(*[pick(rng, pool) for pool in pools]))

    return make


def pair(pool: list[str], glue: str = " and ") -> Maker:
    """Two different items of a pool."""

    def make(rng: random.Random, base: int) -> str:
        first = pick(rng, pool)
        second = pick(rng, pool)
        while second == first:
            second = pick(rng, pool)
        return first + glue + second

    return make


def named(*patterns: str) -> Maker:
    """A proper name: {p} an invented place, {s} a surname, {c} a city, {j} an adjective, {n} a noun."""

    def make(rng: random.Random, base: int) -> str:
        return pick(rng, patterns).format_map(
            {
                "p": invented(rng),
                "q": invented(rng),
                "s": pick(rng, SURNAMES),
                "u": pick(rng, SURNAMES),
                "f": plain_person(rng),
                "c": pick(rng, CITIES),
                "j": pick(rng, ADJECTIVES),
                "n": pick(rng, NOUNS),
                "m": pick(rng, NOUNS),
                "y": base,
                "r": pick(rng, ROMAN[1:]),
                "k": between(rng, 2, 99),
            }
        )

    return make


def ruler(rng: random.Random, base: int = 0) -> str:
    """A ruler such as "Queen Amara II of Velmark"."""
    rank, names = pick(rng, RULER_TITLES)
    number = f" {pick(rng, ROMAN)}" if rng.random() < 0.7 else ""
    return f"{rank} {pick(rng, names)}{number} of {invented(rng)}"


def score(rng: random.Random, base: int) -> str:
    """A match score, the winner's goals first."""
    low = between(rng, 0, 31)
    return f"{low + between(rng, 1, 12)}-{low}"


def binomial(rng: random.Random, base: int) -> str:
    """A Latin-looking species name."""
    genus = pick(rng, HEADS) + pick(rng, ("aria", "opus", "ina", "ella", "odon", "ura", "ops"))
    return f"{genus} {pick(rng, SURNAMES).lower()}{pick(rng, ('i', 'ae', 'ensis'))}"


def drug(rng: random.Random, base: int) -> str:
    """A drug name such as "Velatrinol"."""
    stem = pick(rng, HEADS) + pick(rng, ("a", "o", "i", "e"))
    middle = pick(rng, ("tri", "pro", "xa", "mi", "dro", "fen", "zo", "ve", "lu", "cor", "ba"))
    return stem + middle + pick(rng, ("nol", "dine", "mab", "tin", "zole", "cillin", "pram", "vir"))
