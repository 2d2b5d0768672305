"""What the demonstration publishes: a text, told word by word. No I/O but reading it.

Every paragraph is a run: a transient `token` for each word, then the final with the whole of it.
"""

import time
import uuid
from importlib import resources
from typing import Final

from attrs import define, field, frozen

from gatewayproto import Event
from gatewayproto.frames import Object

_TEXT: Final = "data/alice.txt"


def _read_words() -> list[str]:
    """The words of the text, each with what separates it from the next; paragraphs end a line."""
    text = resources.files("gatewayproto_cli").joinpath(_TEXT).read_text(encoding="utf-8")
    paragraphs = [paragraph.split() for paragraph in text.split("\n\n")]
    return [
        word + ("\n" if number == len(words) else " ")
        for words in paragraphs
        for number, word in enumerate(words, 1)
    ]


@frozen
class Mark:
    """A place in the story, to go back to."""

    word: int
    run: int
    run_start: int | None
    notes: int


@define
class Story:
    """Makes events, one after the other; starts over when the text is at its end."""

    _words: list[str] = field(factory=_read_words, repr=False)
    _word: int = 0
    _run: int = 0
    _run_start: int | None = None
    _notes: int = 0

    @property
    def in_run(self) -> bool:
        """Whether a run waits for its final."""
        return self._run_start is not None

    def next(self) -> Event:
        """What comes next by itself: a word, or the end of a paragraph."""
        if self.in_run and self._words[(self._word - 1) % len(self._words)].endswith("\n"):
            return self.final()
        return self.token()

    def token(self) -> Event:
        """The next word; it begins a run if none is open, and never ends one."""
        if self._run_start is None:
            self._run += 1
            self._run_start = self._word
        word = self._words[self._word % len(self._words)]
        self._word += 1
        return _event("token", {"text": word}, run_id=self._run_id, transient=True)

    def final(self) -> Event:
        """The end of the open run, with all its words."""
        start = self._word if self._run_start is None else self._run_start
        self._run_start = None
        text = self._text(start, self._word - start)
        return _event("response", {"text": text}, run_id=self._run_id, final=True)

    def note(self) -> Event:
        """A durable event of no run."""
        self._notes += 1
        return _event("note", {"n": self._notes})

    def proofs(self, count: int, size: int) -> list[Event]:
        """A run that can be of any volume: proofs of a page of `size` characters, and its final.

        Each proof stands for those before it, so the final is no larger than one of them.
        """
        run_id = f"proof-{uuid.uuid4().hex}"
        page = self._text(0, size // 4)[:size]
        proofs = [
            _event("proof", {"proof": number, "page": page}, run_id=run_id, transient=True)
            for number in range(1, count + 1)
        ]
        final = _event("response", {"proofs": count, "page": page}, run_id=run_id, final=True)
        return [*proofs, final]

    def mark(self) -> Mark:
        """Where the story stands."""
        return Mark(self._word, self._run, self._run_start, self._notes)

    def go_back(self, mark: Mark) -> None:
        """Tell the story again from there."""
        self._word, self._run, self._notes = mark.word, mark.run, mark.notes
        self._run_start = mark.run_start

    @property
    def _run_id(self) -> str:
        return f"run-{self._run}"

    def _text(self, start: int, count: int) -> str:
        words = self._words
        return "".join(words[number % len(words)] for number in range(start, start + count))


def _event(
    type_: str,
    data: Object,
    *,
    run_id: str | None = None,
    transient: bool = False,
    final: bool = False,
) -> Event:
    return Event(
        type=type_,
        data=data,
        event_id=uuid.uuid4().hex,
        timestamp=time.time(),
        run_id=run_id,
        transient=transient or None,
        final=final or None,
    )
