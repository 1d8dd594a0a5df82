"""A context cache: two questions on the same passages, each with several k, read the passages once."""

from __future__ import annotations

from spring_integrations import SpringModel
from spring_integrations.demo import load_demo
from spring_integrations.runtime.context_cache import ContextCache

QUESTIONS = ("Which river drains Lake Tanganyika?", "How deep is Lake Tanganyika?")


def main() -> None:
    """Prints the answers, and how often the passages were found in the cache."""
    cache = ContextCache(max_bytes=256 << 20)
    model = SpringModel.from_pretrained("demo", context_cache=cache)
    passages = [passage for passage in load_demo().passages if "Tanganyika" in passage.text][:2]
    for question in QUESTIONS:
        for k in (0, 10, 50):
            (answer,) = model.generate(model.prompt(passages, question), k=k, max_new_tokens=8)
            print(f"k = {k}: {answer.text}")
    print(f"{cache.misses} computed, {cache.hits} found, {cache.bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
