"""What the controls of the page do: each calls one part of a visitor's session, and shows what came of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from spring_integrations.errors import SpringError
from spring_integrations.playground import pictures
from spring_integrations.playground.parts import Parts
from spring_integrations.playground.session import Choice, Session, Thumb, Turn
from spring_integrations.playground.visitors import Visitors

AT_ONCE = 16
"""Visitors whose questions wait for the model in the program; the model itself answers one at a time."""
_NONE = -1  # number of a question that is not answered yet, so that nothing can be done with it
_GLANCE = 0.3  # seconds between two looks at how far a reading is
Updates = dict[Any, Any]


class Handlers:
    """The handlers of one page."""

    def __init__(self, gr: Any, parts: Parts, visitors: Visitors) -> None:
        """Takes Gradio, the parts of the page, and the sessions of its visitors."""
        self._gr, self._parts, self._visitors = gr, parts, visitors

    def listen(self, page: Any) -> None:
        """Binds the handlers to the controls."""
        gr, parts, bound = self._gr, self._parts, self._bound
        number, keeping = parts.number, [parts.right.history, parts.right.kept, parts.right.export, parts.right.rating]
        busy = {"concurrency_limit": AT_ONCE, "concurrency_id": "model", "show_progress": "hidden"}
        quick = {"concurrency_limit": AT_ONCE, "show_progress": "hidden"}
        buttons = [parts.centre.ask, parts.centre.stop]
        asked = gr.on(
            [parts.centre.ask.click, parts.centre.question.submit],
            bound(self.ask),
            [parts.centre.question, parts.centre.k, *parts.left.choice],
            [*parts.centre.shown, *buttons, number, parts.centre.k, parts.right.correction, *keeping],
            **busy,
        )
        asked.then(self._ready, None, buttons, show_progress="hidden")
        parts.centre.stop.click(self._ready, None, buttons, cancels=[asked], show_progress="hidden")
        again = [*parts.centre.shown, number, *keeping]
        parts.centre.k.input(bound(self.slide), [number, parts.centre.k], again, trigger_mode="always_last", **busy)
        parts.centre.several.click(bound(self.several), number, again, **busy)
        parts.left.files.upload(bound(self.read), parts.left.files, [parts.left.source, parts.left.files], **quick)
        parts.left.shared.click(bound(self.use_shared), None, [parts.left.source, parts.left.files], **quick)
        chosen = [*again, parts.centre.k, parts.centre.question, parts.right.correction]
        parts.right.history.input(bound(self.choose), parts.right.history, chosen, **quick)
        parts.right.up.click(bound(lambda one, at: self.rate(one, at, "up")), number, keeping, **quick)
        parts.right.down.click(bound(lambda one, at: self.rate(one, at, "down")), number, keeping, **quick)
        written = [parts.right.correction.submit, parts.right.correction.blur]
        gr.on(written, bound(self.correct), [number, parts.right.correction], keeping, **quick)
        page.unload(self._with_request(lambda request: self._visitors.leave(request.session_hash)))

    def ask(self, one: Session, question: str, k: float, *choice: Any) -> Iterator[Updates]:
        """Asks a question, and shows the answers as they grow."""
        gr, parts = self._gr, self._parts
        busy = {parts.centre.ask: gr.update(interactive=False), parts.centre.stop: gr.update(interactive=True)}
        yield busy | {parts.centre.alert: gr.update(visible=False)}
        before, failed = len(one.turns), Updates()
        try:
            for turn in one.ask(question, _choice(choice), int(k)):
                level = {parts.centre.k: self._level(turn, _NONE)} if turn.stage == "searching" else {}
                yield self._view(turn, _NONE) | level
        except SpringError as error:
            yield (failed := self._failed(error))
        if (at := len(one.turns) - 1) >= before:
            yield self._turn(one, at) | {parts.right.correction: "", **self._kept(one, at)} | failed

    def slide(self, one: Session, at: int, k: float) -> Iterator[Updates]:
        """Shows the answer with another k."""
        yield from self._again(one, at, lambda: one.show_k(at, int(k)))

    def several(self, one: Session, at: int) -> Iterator[Updates]:
        """Answers with several k."""
        yield from self._again(one, at, lambda: one.sweep(at))

    def read(self, one: Session, paths: Sequence[str] | None) -> Iterator[Updates]:
        """Reads files, and shows how far that is."""
        source, files, told = self._parts.left.source, self._parts.left.files, [(0, 0)]
        with ThreadPoolExecutor(1) as pool:
            given = [Path(path) for path in paths or ()]
            reading = pool.submit(one.read, given, lambda done, of: told.append((done, of)))
            while not wait([reading], _GLANCE).done:
                yield {source: pictures.reading(*told[-1])}
        try:
            yield {source: pictures.source(reading.result()), files: None}
        except SpringError as error:
            yield {source: pictures.notice("error", "These files cannot be read", str(error)), files: None}

    def use_shared(self, one: Session) -> Updates:
        """Goes back to the documents that all visitors share."""
        return {self._parts.left.source: pictures.source(one.use_shared()), self._parts.left.files: None}

    def choose(self, one: Session, at: int) -> Updates:
        """Shows a question of the history again."""
        turn, parts = one.turns[at], self._parts
        return self._turn(one, at) | {parts.centre.question: turn.question, parts.right.correction: turn.correction}

    def rate(self, one: Session, at: int, thumb: Thumb) -> Updates:
        """Keeps a thumb, or takes it back."""
        one.rate(at, None if one.turns[at].thumb == thumb else thumb)
        return self._kept(one, at)

    def correct(self, one: Session, at: int, answer: str) -> Updates:
        """Keeps the right answer."""
        one.correct(at, answer)
        return self._kept(one, at)

    def _again(self, one: Session, at: int, turns: Callable[[], Iterator[Turn]]) -> Iterator[Updates]:
        if at == _NONE:  # a question is being answered, or was stopped
            return
        try:
            for turn in turns():
                yield self._view(turn, at)
        except SpringError as error:
            yield self._failed(error)
            return
        yield self._kept(one, at)

    def _turn(self, one: Session, at: int) -> Updates:
        turn = one.turns[at]
        return self._view(turn, at) | {self._parts.centre.k: self._level(turn, at)}

    def _view(self, turn: Turn, at: int) -> Updates:
        # The number goes with the view: what is rated is what is shown, whatever else was going on.
        parts = self._parts
        known = {
            parts.number: at,
            parts.right.history: self._gr.update(value=None if at == _NONE else at),
            parts.right.rating: self._gr.update(visible=at != _NONE),
            parts.centre.status: pictures.status(turn),
            parts.centre.alert: self._gr.update(visible=False),
            parts.centre.results: self._gr.update(visible=bool(turn.passages)),
        }
        if not turn.passages:
            return known
        return known | {
            parts.centre.answers: pictures.answers(turn),
            parts.centre.by_k: pictures.answers_by_k(turn),
            parts.centre.origin: pictures.origin(turn),
            parts.centre.passages: pictures.passages(turn),
            parts.centre.prompt: pictures.prompt(turn),
        }

    def _failed(self, error: SpringError) -> Updates:
        alert = pictures.notice("error", "That did not work", str(error))
        return {self._parts.centre.alert: self._gr.update(value=alert, visible=True), self._parts.centre.status: ""}

    def _kept(self, one: Session, at: int) -> Updates:
        gr, parts, file = self._gr, self._parts, one.export()
        labels = [(pictures.history(turn, i), i) for i, turn in enumerate(one.turns)]
        return {
            parts.right.history: gr.update(choices=labels, value=at, visible=True),
            parts.right.kept: pictures.kept(len(one.examples()), len(labels)),
            parts.right.export: gr.update(value=file, interactive=file is not None),
            parts.right.rating: gr.update(visible=True),
        }

    def _level(self, turn: Turn, at: int) -> Any:
        return self._gr.update(maximum=max(turn.n, 1), value=turn.k, interactive=turn.n > 0 and at != _NONE)

    def _ready(self) -> Updates:
        update = self._gr.update
        return {self._parts.centre.ask: update(interactive=True), self._parts.centre.stop: update(interactive=False)}

    def _bound(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a handler as Gradio calls it, which finds the visitor's session by the request."""

        def stream(request: Any, *values: Any) -> Iterator[Updates]:
            yield from handler(self._visitors.session(request.session_hash), *values)

        def call(request: Any, *values: Any) -> Updates:
            return handler(self._visitors.session(request.session_hash), *values)

        return self._with_request(stream if inspect.isgeneratorfunction(handler) else call)

    def _with_request(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        handler.__annotations__ = {"request": self._gr.Request}  # Gradio gives it by its type
        return handler


def _choice(values: Sequence[Any]) -> Choice:
    model, tokens, retriever, top, longest = values
    return Choice(model.strip() or "demo", tokens.strip(), retriever, int(top), int(longest))
