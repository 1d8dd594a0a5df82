"""RAG-Token: each passage has a prompt of its own, and the posterior says which one the answer comes from."""

from __future__ import annotations

from spring_integrations import SpringModel
from spring_integrations.decoding import RagDecoder
from spring_integrations.demo import load_demo
from spring_integrations.retrieval import BM25Index

QUESTION = "Which river drains Lake Tanganyika?"


def main() -> None:
    """Answers one question from three passages by two methods."""
    passages = BM25Index.build(load_demo().passages).search(QUESTION, 3)
    model = SpringModel.from_pretrained("demo")
    for method in ("rag-token", "rag-sequence-fast"):
        answer = RagDecoder(model, method).answer(QUESTION, passages, max_new_tokens=12)
        print(f"{method}: {answer.text} (log p = {answer.log_probability:.2f})")
        for passage, share in zip(answer.passages, answer.posterior, strict=True):
            print(f"  {share:.0%} from {passage.title}")


if __name__ == "__main__":
    main()
