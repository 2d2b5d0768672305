"""Another text in the place of a secret: as long, of the same kind, and the same every time.

A pseudonym is a keyed permutation of texts (a Feistel network over their characters). So equal
secrets have equal pseudonyms and different ones different pseudonyms, nothing has to be remembered
for that, and without the key, which is nowhere written, nobody finds the way back. A text that is
so long that chance does as well is replaced by what a hash of it gives, which takes less time.

Spec: the verification page, "Recorded inputs".
"""

import re
import string
from collections.abc import Iterable
from functools import lru_cache
from hashlib import shake_256
from typing import Final

from attrs import frozen

_ROUNDS: Final = 10
_CACHED: Final = 4096
_LONG: Final = 256
"""Characters from which on a hash tells texts apart as surely as a permutation does."""

WORD: Final = string.ascii_letters + string.digits + "_-"
"""The characters that ids are made of: what URL-safe base64 uses."""


@frozen
class _Class:
    """Characters that take the same room, in UTF-8 and in JSON: `size` of them from `first` on."""

    first: int
    size: int

    def turn(self, place: int, by: int) -> int:
        """Go round `by` places; on from white space, which a receiver might strip."""
        place = (place + by) % self.size
        while self is not _WORD and chr(self.first + place).isspace():
            place = (place + by) % self.size
        return place


_WORD_RUN: Final = re.compile(r"[A-Za-z0-9_-]+")
_REPLACED: Final = re.compile(r"[A-Za-z0-9_-]+|[^\x00-\x7f]+")
_BEYOND: Final = re.compile(r"[^\x00-\x7f]")
_FOLD: Final = bytes(WORD.encode()[byte % len(WORD)] for byte in range(256))
_WORD: Final = _Class(0, len(WORD))
_WORD_PLACES: Final = {character: place for place, character in enumerate(WORD)}
_RANGES: Final = (
    _Class(0x80, 0x800 - 0x80),
    _Class(0x800, 0xD800 - 0x800),
    _Class(0xE000, 0x10000 - 0xE000),
    _Class(0x10000, 0x110000 - 0x10000),
)


class Pseudonyms:
    """Pseudonyms by one key of at least 16 random bytes.

    The characters of ids and everything beyond ASCII are replaced. White space, quotes and other
    punctuation of ASCII stay: they say how a text is to be read.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._short = lru_cache(_CACHED)(self._permuted)

    def of(self, secret: str) -> str:
        """The pseudonym of a text."""
        return self._short(secret) if len(secret) < _LONG else self._long(secret)

    def _long(self, secret: str) -> str:
        if len(secret) - len(_REPLACED.sub("", secret)) < _LONG:
            return self._permuted(secret)
        data = self._key + b"long" + secret.encode("utf-8", "surrogatepass")
        stream = shake_256(data).digest(4 * len(secret))
        letters = stream[: len(secret)].translate(_FOLD).decode("ascii")
        text = _WORD_RUN.sub(lambda run: letters[run.start() : run.end()], secret)
        return _BEYOND.sub(lambda found: _turned(found, stream), text)

    def _permuted(self, secret: str) -> str:
        found = {at: _place(each) for at, each in enumerate(secret)}
        where = [at for at, place in found.items() if place is not None]
        classes = [place[0] for place in found.values() if place is not None]
        places = [place[1] for place in found.values() if place is not None]
        middle = len(places) // 2
        halves = range(middle), range(middle, len(places))
        for number in range(_ROUNDS):
            known, turned = halves if number % 2 == 0 else halves[::-1]
            steps = self._steps(number, classes, [places[at] for at in known], len(turned))
            for at, by in zip(turned, steps, strict=True):
                places[at] = classes[at].turn(places[at], by)
        characters = list(secret)
        for at, class_, place in zip(where, classes, places, strict=True):
            characters[at] = WORD[place] if class_ is _WORD else chr(class_.first + place)
        return "".join(characters)

    def _steps(
        self, number: int, classes: list[_Class], known: list[int], count: int
    ) -> Iterable[int]:
        said = f"{number} {[each.first for each in classes]} {known}".encode()
        stream = shake_256(self._key + said).digest(4 * count)
        return (int.from_bytes(stream[at : at + 4]) for at in range(0, 4 * count, 4))


def _turned(found: re.Match[str], stream: bytes) -> str:
    """Another character beyond ASCII, as the stream says."""
    place = _place(found[0])
    if place is None:
        return found[0]
    by = int.from_bytes(stream[4 * found.start() : 4 * found.start() + 4], "big")
    return chr(place[0].first + place[0].turn(place[1], by))


def _place(character: str) -> tuple[_Class, int] | None:
    """The class of a character and its place in it; None for one that stays."""
    if character in _WORD_PLACES:
        return _WORD, _WORD_PLACES[character]
    if character.isspace():
        return None
    code = ord(character)
    for class_ in _RANGES:
        if class_.first <= code < class_.first + class_.size:
            return class_, code - class_.first
    return None
