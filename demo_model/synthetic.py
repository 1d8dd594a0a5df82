"""Template generator of synthetic reading-comprehension data about invented entities.

A domain's templates are a text file in a small notation (`data/templates/<domain>.txt`), parsed once
at import:

* ``intro:`` first sentences, ``multi:`` sentences that state several attributes, ``fill:``
  sentences that state nothing asked, ``desc:`` ways to mention the entity without its name.
* ``* name`` opens an attribute: its sentence templates, then its questions (``? ...``).
* ``{}`` is the attribute's own value, ``{other}`` another one's, ``{t}`` the entity's name;
  ``{R}``, ``{P}``, ``{o}`` refer to the entity (subject, possessive, object) and ``{p}`` is
  always the possessive pronoun. ``[a|b]`` is a choice, ``a(n)`` the right article.
* Date values carry their preposition in sentences ("on 14 March 1972") but not as answers.

A full-sentence answer is one of the attribute's own sentences with the name put in.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from dataclasses import dataclass

from synthetic_domains import SPECS, Spec
from synthetic_domains_more import MORE_SPECS
from synthetic_values import Value, articles, between, capital, city, person, pick, possessive
from synthetic_words import FEMALE, MONTHS

MIN_WORDS, MAX_WORDS, MAX_SENTENCES = 25, 80, 6
SLOT = re.compile(r"\{(\w+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
REFERENCES = frozenset("tRPop")
MONTH_SET = frozenset(MONTHS) | {"Saint", "Mount", "River", "Lake", "Park", "Castle", "Records"}
WOMEN = frozenset(FEMALE) | {"Queen", "Empress", "Duchess"}


def expand(text: str) -> list[str]:
    """Every reading of a text with [a|b] choices."""
    match = CHOICE.search(text)
    if not match:
        return [" ".join(text.split())]
    head, tail = text[: match.start()], text[match.end() :]
    return [full for part in match[1].split("|") for full in expand(head + part + tail)]


@dataclass(frozen=True)
class Template:
    """A sentence with the attributes it states."""

    text: str
    slots: frozenset[str]
    names_entity: bool


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: how to state it, ask for it and answer it."""

    sentences: tuple[Template, ...]
    questions: tuple[str, ...]
    answers: tuple[Template, ...]


@dataclass(frozen=True)
class Domain:
    """A parsed specification."""

    spec: Spec
    intros: tuple[Template, ...]
    multis: tuple[Template, ...]
    fillers: tuple[Template, ...]
    descriptions: tuple[Template, ...]
    attributes: dict[str, Attribute]


def template(text: str) -> Template:
    """Parse one expanded sentence."""
    slots = frozenset(SLOT.findall(text))
    return Template(text, slots - REFERENCES, bool(slots & {"R", "P", "o", "t"}))


def attribute(name: str, lines: list[str]) -> Attribute:
    """Parse the lines under "* name"."""
    sentences: list[Template] = []
    questions: list[str] = []
    for line in lines:
        if line.startswith("?"):
            questions += expand(line[1:].replace(" 's", "'s"))
        else:
            sentences += map(template, expand(line.replace("{}", f"{{{name}}}")))
    answers = tuple(t for t in sentences if t.names_entity and t.slots == {name})
    return Attribute(tuple(sentences), tuple(questions), answers)


def compile_domain(spec: Spec) -> Domain:
    """Parse a specification's text."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in filter(None, map(str.strip, spec.text.split("\n"))):
        if line.startswith("* ") or line.endswith(":"):
            current = sections.setdefault(line.removeprefix("* ").rstrip(":"), [])
            if line.startswith("* "):
                sections[line] = current
        else:
            current.append(line)
    parts = {
        part: tuple(template(text) for line in sections[part] for text in expand(line))
        for part in ("intro", "multi", "fill", "desc")
    }
    names = [line[2:] for line in sections if line.startswith("* ")]
    attributes = {name: attribute(name, sections["* " + name]) for name in names}
    return Domain(spec, parts["intro"], parts["multi"], parts["fill"], parts["desc"], attributes)


COMPILED = {spec.name: compile_domain(spec) for spec in (*SPECS, *MORE_SPECS)}
DOMAINS: tuple[str, ...] = tuple(COMPILED)

# ---------------------------------------------------------------- generation


class Entity:
    """One invented entity: its name, values drawn on demand, and references to it."""

    def __init__(self, rng: random.Random, domain: Domain, titles: set[str], used: set[tuple[str, str]]) -> None:
        self.rng, self.domain, self.used = rng, domain, used
        self.base = between(rng, *domain.spec.years)
        self.name = articles(str(domain.spec.title(rng, self.base)))
        while self.title in titles:
            self.name = articles(str(domain.spec.title(rng, self.base)))
        titles.add(self.title)
        self.values: dict[str, Value] = {}
        self.taken: set[str] = set(self.name.lower().split())
        self.years: set[str] = set()

    @property
    def title(self) -> str:
        """The name without its article, as a page title."""
        return capital(self.name.removeprefix("the "))

    def value(self, name: str) -> Value:
        """The attribute's value, different from the entity's other values and the group's."""
        known = self.values.get(name)
        if known:
            return known
        maker = self.domain.spec.makers[name]
        for _ in range(60):
            made = maker(self.rng, self.base)
            value = made if isinstance(made, tuple) else (made, made)
            if (name, value[0]) not in self.used and self.fresh(value[0]):
                break
        self.used.add((name, value[0]))
        self.values[name] = value
        self.taken.add(value[0].lower())
        self.taken.update(value[0].lower().split())
        return value

    def fresh(self, text: str) -> bool:
        """Whether a value shares no proper word or number with what the passage may hold."""
        words = text.split()
        return text.lower() not in self.taken and not any(
            word.lower() in self.taken
            for word in words
            if word[0].isupper() or word[0].isdigit()
            if word not in MONTH_SET
        )

    def references(self, pronoun: bool) -> dict[str, str]:
        """Subject, object and possessive forms for one later sentence."""
        nouns = self.domain.spec.nouns
        if nouns:
            subject = "it" if pronoun and self.rng.random() < 0.5 else pick(self.rng, nouns.split("|"))
            owner = "its" if subject == "it" else possessive(subject)
            return {"R": subject, "o": subject, "P": owner, "p": "its"}
        words = self.name.split()
        she = words[0] in WOMEN
        owner = "her" if she else "his"
        if pronoun and self.rng.random() < 0.65:
            subject, other = ("she", "her") if she else ("he", "him")
            return {"R": subject, "o": other, "P": owner, "p": owner}
        short = f"the {words[0].lower()}" if self.domain.spec.name == "ruler" else words[-1]
        return {"R": short, "o": short, "P": possessive(short), "p": owner}

    def naming(self) -> dict[str, str]:
        """Reference forms that give the name, for full-sentence answers."""
        owner = "its"
        if not self.domain.spec.nouns:
            owner = "her" if self.name.split()[0] in WOMEN else "his"
        return {"R": self.name, "o": self.name, "P": possessive(self.name), "p": owner}

    def say(self, item: Template, forms: dict[str, str]) -> str:
        """A finished sentence."""
        filled = {name: self.value(name)[1] for name in sorted(item.slots)}
        return capital(articles(item.text.format_map({**filled, **forms, "t": self.name})))

    def filler(self, item: Template, forms: dict[str, str]) -> str:
        """A sentence that states nothing asked, with fresh distractor values."""
        filled = dict(forms)
        for slot in sorted(item.slots):
            text = self.distractor(slot)
            while not self.fresh(text):
                text = self.distractor(slot)
            self.taken.update(text.lower().split())
            filled[slot] = text
        return capital(articles(item.text.format_map(filled)))

    def distractor(self, slot: str) -> str:
        """A random value for a filler's slot."""
        if slot == "person":
            return person(self.rng)
        if slot.startswith("city"):
            return city(self.rng)
        if slot.startswith("before"):
            return str(self.base - between(self.rng, 2, 40))
        return str(self.base + between(self.rng, *((81, 99) if slot == "late" else (2, 60))))


def plan(entity: Entity) -> list[Template]:
    """The later sentences, each attribute stated once, facts and fillers mixed."""
    rng, domain = entity.rng, entity.domain
    intro = pick(rng, domain.intros)
    covered = set(intro.slots)
    room = between(rng, 1, MAX_SENTENCES - 1)
    later: list[Template] = []
    for item in rng.sample(domain.multis, len(domain.multis)):
        if len(later) < room and not item.slots & covered and rng.random() < 0.45:
            later.append(item)
            covered |= item.slots
    names = [name for name in domain.attributes if name not in covered]
    rng.shuffle(names)
    for name in names[: room - len(later)]:
        options = [t for t in domain.attributes[name].sentences if not t.slots & covered]
        if options:
            item = pick(rng, options)
            later.append(item)
            covered |= item.slots
    if rng.random() < 0.55:
        extra = pick(rng, domain.fillers)
        later = [*later[: MAX_SENTENCES - 2], extra]
    rng.shuffle(later)
    return [intro, *later]


def write(entity: Entity) -> tuple[str, set[str]]:
    """The passage and the attributes it states."""
    domain = entity.domain
    sentences: list[str] = []
    stated: set[str] = set()
    words = 0
    pronoun = True
    for item in plan(entity):
        if words >= MIN_WORDS and item in domain.fillers and len(sentences) == MAX_SENTENCES:
            continue
        is_filler = item in domain.fillers
        forms = entity.references(pronoun)
        text = entity.filler(item, forms) if is_filler else entity.say(item, forms)
        length = text.count(" ") + 1
        if words + length > MAX_WORDS:
            continue
        sentences.append(text)
        words += length
        stated |= set() if is_filler else item.slots
        pronoun = item.names_entity and not (is_filler and item.slots)
    return " ".join(sentences), stated


def mention(entity: Entity, asked: str, stated: set[str]) -> str:
    """How a question refers to the entity: mostly by name, at times by a description."""
    rng = entity.rng
    if rng.random() < 0.07:
        options = [d for d in entity.domain.descriptions if asked not in d.slots and d.slots <= stated]
        if options:
            values = {name: value[0] for name, value in entity.values.items()}
            return pick(rng, options).text.format_map(values)
    if entity.name.startswith("the ") and rng.random() < 0.3:
        return entity.name[4:]
    return entity.name


def ask(entity: Entity, name: str, passage: str, stated: set[str]) -> dict[str, str]:
    """One question with its short and its full-sentence answer."""
    rng, kind = entity.rng, entity.domain.attributes[name]
    answer = entity.value(name)[0]
    if answer not in passage:
        answer = capital(answer)
    question = pick(rng, kind.questions).format(t=mention(entity, name, stated)).lower()
    sentence = entity.say(pick(rng, kind.answers), entity.naming())
    return {"q": question, "a": answer, "s": sentence}


def build(rng: random.Random, domain: Domain, titles: set[str], used: set[tuple[str, str]]) -> dict:
    """One passage with its questions, longer or shorter attempts thrown away."""
    while True:
        entity = Entity(rng, domain, titles, used)
        passage, stated = write(entity)
        if passage.count(" ") + 1 >= MIN_WORDS:
            break
        titles.discard(entity.title)
    order = [name for name in domain.attributes if name in stated]
    rng.shuffle(order)
    return {
        "title": entity.title,
        "passage": passage,
        "qa": [ask(entity, name, passage, stated) for name in order],
    }


def generate(rng: random.Random, domain: str | None = None) -> dict:
    """A random passage with questions: {"title", "passage", "qa": [{"q", "a", "s"}, ...]}."""
    return build(rng, COMPILED[domain or pick(rng, DOMAINS)], set(), set())


def group(rng: random.Random, n: int) -> list[dict]:
    """n passages of one domain with different titles and, up to about 10, different values."""
    domain = COMPILED[pick(rng, DOMAINS)]
    titles: set[str] = set()
    used: set[tuple[str, str]] = set()
    return [build(rng, domain, titles, used) for _ in range(n)]


# ---------------------------------------------------------------- checks


def check_templates() -> None:
    """Assert that every attribute has enough templates and every slot a maker."""
    for domain in COMPILED.values():
        makers = domain.spec.makers
        assert set(makers) == set(domain.attributes), (domain.spec.name, set(makers) ^ set(domain.attributes))
        assert len(domain.intros) >= 3
        for item in (*domain.intros, *domain.multis, *domain.descriptions):
            assert item.slots <= set(makers), (domain.spec.name, item)
        for name, kind in domain.attributes.items():
            sizes = (len(kind.sentences), len(kind.questions), len(kind.answers))
            assert sizes[0] >= 3 and sizes[1] >= 4 and sizes[2] >= 2, (domain.spec.name, name, sizes)
            assert all("{t}" in question for question in kind.questions), (name, kind.questions)


def check_sample(sample: dict) -> None:
    """Assert the invariants of one passage."""
    passage = sample["passage"]
    assert MIN_WORDS <= len(passage.split()) <= MAX_WORDS, passage
    sentences = len(re.findall(r"[.](?= [A-Z][^.]|$)", re.sub(r" [A-Z]\.", " ", passage)))
    assert sentences <= MAX_SENTENCES, passage
    assert sample["qa"], sample
    for text in (passage, *(text for qa in sample["qa"] for text in qa.values())):
        assert not re.search(r"  |[{}\[\]]|\(n\)| [.,]|\.\.|\bNone\b", text), text
        assert not re.search(r"\b[Aa] [aeioAEIO](?!ne\b)|\b[Aa]n [bcdfgjklmnpqrstvwxyz]", text), text
    for qa in sample["qa"]:
        assert qa["a"] in passage, (qa, passage)
        assert qa["a"].lower() in qa["s"].lower(), qa
        assert qa["q"] == qa["q"].lower() and "?" not in qa["q"], qa
        assert qa["a"].lower() not in qa["q"].split(), qa


def check(n: int = 5000) -> None:
    """Assert the invariants on n passages and on groups; print the speed."""
    check_templates()
    rng = random.Random(1)
    start = time.perf_counter()
    samples = [generate(rng) for _ in range(n)]
    seconds = time.perf_counter() - start
    for sample in samples:
        check_sample(sample)
    for _ in range(n // 10):
        members = group(rng, 8)
        assert len({member["title"] for member in members}) == len(members)
        for member in members:
            check_sample(member)
    questions = sum(len(sample["qa"]) for sample in samples)
    words = sum(len(sample["passage"].split()) for sample in samples)
    print(f"{len(DOMAINS)} domains, {sum(len(d.attributes) for d in COMPILED.values())} attributes")
    print(f"{n} passages, {words / n:.1f} words and {questions / n:.1f} questions each")
    print(f"{n / seconds:,.0f} passages/s, {questions / seconds:,.0f} questions/s")


def main() -> None:
    """Print samples, or check the invariants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", choices=DOMAINS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        check()
        return
    rng = random.Random(options.seed)
    for _ in range(options.n):
        print(json.dumps(generate(rng, options.domain), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
