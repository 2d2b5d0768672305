"""Secrets out of the texts and frames of a recording, so that it still replays to the same actions.

What stands where a secret belongs (a token, a session id) is replaced by its pseudonym, whatever
it is. Secrets that are long enough to be no ordinary word are replaced wherever they occur.
Pseudonyms are as long as what they replace, in characters, in UTF-8 and in JSON.

A snapshot can hold a secret that was never written in one piece: texts of a run are joined, and a
large snapshot is cut into parts. There, in what a gateway gave, it is blanked, and a replay does
not look at what was blanked. What a client was given in parts is what its parts say once they are
redacted.

Spec: the verification page, "Recorded inputs".
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

from attrs import frozen

from gatewayproto.testing._pseudonyms import Pseudonyms

BLANK: Final = "█"
"""Stands for one character of a secret in a snapshot that a gateway gave; a replay takes any."""
STRONG: Final = 16
"""Characters from which on a secret is replaced wherever it occurs, not only in its place."""
MAX_SECRETS: Final = 1_000_000
"""Secrets that are kept apart; they are as many as the sessions of one recording."""
MAX_NAMED: Final = 128
"""Characters of a session id that a server named, above which it counts in its place alone."""
MAX_LENGTHS: Final = 8
"""Lengths that the session ids named by servers may have, so that to look for them is quick."""
_LONG_TEXT: Final = 4096
"""Characters of a snapshot's text that may have been cut, as the text of a long run is."""
_PIECE: Final = 8
"""Characters of a secret that are taken for a piece of it, not for chance."""

Way = Literal["to_server", "to_client"]
"""Who the receiver of a frame is: each side has secrets in other places."""

_PLAIN: Final = re.compile(r"[a-z_ ]*|[0-9eE+.-]*")
"""Words, and numbers: what a frame may hold that is no text of anybody's."""
_WORDS: Final = re.compile(rf"[A-Za-z0-9_-]{{{STRONG},}}")
_LEXEMES: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],:]|[^"{}\[\],:]+', re.DOTALL)
"""Strings, marks, and what is between them: joined, they are the text again."""
_UNITS: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.",
    re.DOTALL,
)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WELCOMES: Final = frozenset({"hello_ok", "joined"})

Edit = Callable[[str], str]

_Where = tuple[str | None, ...]
"""The names that lead to a string in a frame; None in the place of one that there is none of."""
_TYPE: Final[_Where] = (None, "type")
_TOKEN: Final[_Where] = (None, "token")
_SESSION_ID: Final[_Where] = (None, "session_id")
_CHUNK: Final[_Where] = (None, "chunk")
_STATE_SESSION_ID: Final[_Where] = (None, "state", "session_id")


@frozen
class _End:
    """A piece at the end of a text, and the secret that it may be a piece of."""

    piece: str
    secret: str


_NO_END: Final = _End("", "")


class TooManySecretsError(Exception):
    """There are more secrets than can be kept apart."""


class Verbatim:
    """Leaves every text as it is: what a replay compares with what was recorded."""

    def pseudonym(self, secret: str) -> str:
        """Edit a text that is a secret by its place."""
        return secret

    def session_id(self, session_id: str) -> str:
        """Edit a session id, in either form."""
        return session_id

    def credentials(self, value: str) -> str:
        """Edit the value of an `Authorization` header."""
        return value

    def text(self, text: str) -> str:
        """Edit a text that is no secret by its place."""
        return text

    def received(self, frame: str, way: Way, connection: int) -> str:  # noqa: ARG002 -- for others
        """Edit a frame that a machine was given, whatever text it is."""
        return frame

    def sent(self, frame: str, way: Way) -> str:  # noqa: ARG002 -- for others
        """Edit a frame that a machine gave."""
        return frame

    @property
    def joined(self) -> dict[str, Any] | None:
        """The state of which a client was given the last part just now, as its parts have it."""
        return None


class Redactor(Verbatim):
    """Replaces secrets by their pseudonyms. It knows those that it was told, and their places."""

    def __init__(self, key: bytes) -> None:
        self._pseudonyms = Pseudonyms(key)
        self._words: set[str] = set()
        self._starts: set[str] = set()  # of the words
        self._lengths: list[int] = []  # of the words, the longest first
        self._phrases: dict[str, str] = {}  # as it is, or as JSON spells it: the secret
        self._phrase = re.compile(r"(?!)")
        self._parts = _Parts()

    def learn(self, secret: str) -> None:
        """Replace this secret wherever it occurs from now on, if it is long enough for that.

        Raises `TooManySecretsError`.
        """
        if len(secret) < STRONG or _PLAIN.fullmatch(secret):
            return
        if len(self._words) + len(self._phrases) >= MAX_SECRETS:
            raise TooManySecretsError(f"more than {MAX_SECRETS} secrets")
        if _WORDS.fullmatch(secret):
            self._words.add(secret)
            self._starts.add(secret[:STRONG])
            if len(secret) not in self._lengths:
                self._lengths = sorted({*self._lengths, len(secret)}, reverse=True)
        elif secret not in self._phrases:
            self._phrases |= {secret: secret, _spelled(secret): secret}
            longest_first = sorted(self._phrases, key=len, reverse=True)
            self._phrase = re.compile("|".join(map(re.escape, longest_first)))

    # -- texts --------------------------------------------------------------------------------

    def pseudonym(self, secret: str) -> str:
        """The pseudonym of a text, whatever it is."""
        return self._pseudonyms.of(secret)

    def text(self, text: str) -> str:
        """Replace the secrets in a text that is none."""
        return self._edit(text, self._stand_in)

    def _stand_in(self, found: str) -> str:
        """What stands for a secret that was found, in the spelling in which it was."""
        secret = self._phrases.get(found, found)
        pseudonym = self.pseudonym(secret)
        return pseudonym if found == secret else _spelled(pseudonym)

    def session_id(self, session_id: str) -> str:
        """Replace a session id; an epoch that it carries stays, it is no secret."""
        bare, dot, epoch = session_id.partition(".")
        return self.pseudonym(bare) + dot + self.text(epoch)

    def credentials(self, value: str) -> str:
        """Replace the value of an `Authorization` header, but for its scheme."""
        scheme, space, rest = value.partition(" ")
        if scheme.lower() != "bearer":
            return self.pseudonym(value)
        inner = rest.strip()
        before, after = rest[: len(rest) - len(rest.lstrip())], rest[len(rest.rstrip()) :]
        return scheme + space + (before + self.pseudonym(inner) + after if inner else rest)

    def _blank(self, text: str) -> str:
        """Blank the secrets in a text of a snapshot, which was cut itself if it is long."""
        return self._blank_chunk(text) if len(text) >= _LONG_TEXT else self._edit(text, blank_all)

    def _blank_chunk(self, text: str) -> str:
        """Blank the secrets in a text, and what may be a piece of one at its ends."""
        head, tail = self._ends(text, 1)
        blanked = self._edit(text, blank_all)
        if len(head.piece) + len(tail.piece) > len(text):
            return blank_all(text)
        middle = blanked[len(head.piece) : len(text) - len(tail.piece)]
        return blank_all(head.piece) + middle + blank_all(tail.piece)

    def _cut_chunk(self, text: str) -> str:
        """Replace the secrets in a text, and what is likely to be a piece of one at its ends."""
        text = self.text(text)
        head, tail = self._ends(text, _PIECE)
        if len(head.piece) + len(tail.piece) > len(text):
            tail = _NO_END
        middle = text[len(head.piece) : len(text) - len(tail.piece)]
        head_for = self._stand_in(head.secret)[len(head.secret) - len(head.piece) :]
        return head_for + middle + self._stand_in(tail.secret)[: len(tail.piece)]

    def _edit(self, text: str, edit: Edit) -> str:
        if self._phrases:
            pieces = _around(self._phrase, text)
            return "".join(
                edit(piece) if is_secret else self._edit_words(piece, edit)
                for piece, is_secret in pieces
            )
        return self._edit_words(text, edit)

    def _edit_words(self, text: str, edit: Edit) -> str:
        if not self._words:
            return text
        return _WORDS.sub(lambda run: self._edit_run(run[0], edit), text)

    def _edit_run(self, run: str, edit: Edit) -> str:
        """Replace the ids in a run of characters that ids are made of."""
        edited: list[str] = []
        done = 0
        for at in range(len(run) - STRONG + 1):
            if at < done or run[at : at + STRONG] not in self._starts:
                continue
            for length in self._lengths:
                if run[at : at + length] in self._words:
                    edited += run[done:at], edit(run[at : at + length])
                    done = at + length
                    break
        return "".join(edited) + run[done:]

    def _ends(self, text: str, least: int) -> tuple["_End", "_End"]:
        """The longest pieces of secrets, `least` characters or more, that are at both ends."""
        head = tail = _NO_END
        for secret in (*self._words, *self._phrases):
            for size in range(len(secret) - 1, max(least, len(tail.piece) + 1) - 1, -1):
                if text.endswith(secret[:size]):
                    tail = _End(secret[:size], secret)
                    break
            for size in range(len(secret) - 1, max(least, len(head.piece) + 1) - 1, -1):
                if text.startswith(secret[-size:]):
                    head = _End(secret[-size:], secret)
                    break
        return head, tail

    # -- frames -------------------------------------------------------------------------------

    def received(self, frame: str, way: Way, connection: int) -> str:
        """Replace the secrets in a frame that a machine was given, whatever text it is."""
        text = _Text(frame)
        if way == "to_client" and text.kind in _WELCOMES:
            for session_id in text.at(_SESSION_ID):
                self._learn_named(session_id.partition(".")[0])
        edited = text.edited(lambda where: self._edit_received(where, text.kind, way), self.text)
        if way == "to_client":
            self._parts.add(edited if text.kind == "snapshot" else None, connection)
        return edited

    def _learn_named(self, session_id: str) -> None:
        """Learn an id that a server named, which may be anything."""
        if len(session_id) > MAX_NAMED or not _WORDS.fullmatch(session_id):
            return
        if len(session_id) not in self._lengths and len(self._lengths) >= MAX_LENGTHS:
            raise TooManySecretsError(f"session ids of more than {MAX_LENGTHS} lengths")
        self.learn(session_id)

    @property
    def joined(self) -> dict[str, Any] | None:
        """The state of which a client was given the last part just now, as its parts have it."""
        return self._parts.state

    def sent(self, frame: str, way: Way) -> str:
        """Replace the secrets in a frame that a machine gave; in a snapshot they are blanked."""
        text = _Text(frame)
        is_snapshot = way == "to_client" and text.kind == "snapshot"
        anywhere = self._blank if is_snapshot else self.text
        return text.edited(lambda where: self._edit_sent(where, text.kind, way), anywhere)

    def _edit_received(self, where: _Where, kind: str | None, way: Way) -> Edit | None:
        if way == "to_client" and kind == "snapshot":
            if where == _STATE_SESSION_ID:
                return self.session_id
            return self._cut_chunk if where == _CHUNK else None
        return self._edit_sent(where, kind, way)

    def _edit_sent(self, where: _Where, kind: str | None, way: Way) -> Edit | None:
        """What a string is to be edited with in its place; None where that is none of a secret."""
        if way == "to_server":
            if where == _TOKEN:
                return self.pseudonym
            return self.session_id if where == _SESSION_ID else None
        if kind == "snapshot":
            if where == _STATE_SESSION_ID:
                return blank_all
            return self._blank_chunk if where == _CHUNK else None
        # Of a frame that is none, nothing comes: there the place alone counts.
        is_place = where == _SESSION_ID and (kind is None or kind in _WELCOMES)
        return self.session_id if is_place else None


class _Parts:
    """The parts of a snapshot that a client was given, as they were redacted."""

    def __init__(self) -> None:
        self._connection = 0
        self._chunks: list[str] = []
        self.state: dict[str, Any] | None = None

    def add(self, frame: str | None, connection: int) -> None:
        """A frame came, None for one that is no snapshot; a client heeds its newest connection."""
        if connection < self._connection:
            return
        if connection > self._connection:
            self._connection, self._chunks = connection, []
        self.state = None
        match _fields(frame):
            case {"chunk": str() as chunk, "part": int() as part, "parts": int() as parts}:
                self._chunks = [chunk] if part == 1 else [*self._chunks, chunk]
                if part == parts:
                    self.state = _fields("".join(self._chunks))
                    self._chunks = []
            case _:
                pass


def _fields(text: str | None) -> dict[str, Any] | None:
    """The object that a text is, if it is one."""
    try:
        fields = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def blank_all(text: str) -> str:
    """Blank a whole text."""
    return BLANK * len(text)


def _spelled(text: str) -> str:
    """A text as JSON spells it, which is how the parts of a snapshot hold it."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _around(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and whether each is a match."""
    done = 0
    for found in pattern.finditer(text):
        yield text[done : found.start()], False
        yield found[0], True
        done = found.end()
    yield text[done:], False


# -- JSON as text -----------------------------------------------------------------------------
# Frames are edited as the text that came: what is no JSON has to stay what it is, and no byte more
# or less may come of it.


class _Text:
    """A text that may be JSON, and the strings in it that are where secrets may be."""

    def __init__(self, text: str) -> None:
        self._lexemes: list[str] = _LEXEMES.findall(text)
        self._places: dict[int, _Where] = {}
        self._find_places()
        self.kind: str | None = next(iter(self.at(_TYPE)), None)
        """The `type` of a frame; None where it has none."""

    def at(self, where: _Where) -> list[str]:
        """The strings in that place."""
        found = [index for index, place in self._places.items() if place == where]
        return [_String(self._lexemes[index]).text for index in found]

    def edited(self, choose: Callable[[_Where], Edit | None], anywhere: Edit) -> str:
        """The text, each string edited with what is chosen for its place, or else `anywhere`."""
        edited = self._lexemes.copy()
        for index, lexeme in enumerate(self._lexemes):
            if lexeme[0] != '"':
                continue
            place = self._places.get(index)
            edit = None if place is None else choose(place)
            # No escape is shorter than its character: what is short holds no long secret.
            if edit is not None or len(lexeme) > STRONG:
                edited[index] = _String(lexeme).edited(edit or anywhere)
        return "".join(edited)

    def _find_places(self) -> None:
        """Find the strings that are values and not too deep, and the names that lead to them."""
        path: list[str | None] = []
        name: str | None = None
        last = -1  # the string before
        for index, lexeme in enumerate(self._lexemes):
            match lexeme[0]:
                case '"':
                    if name is not None and len(path) < len(_STATE_SESSION_ID):
                        self._places[index] = (*path, name)
                    last = index
                    continue
                case ":":
                    if last >= 0:
                        self._places.pop(last, None)
                        name = _String(self._lexemes[last]).text
                case "{" | "[":
                    path.append(name)
                    name = None
                case "}" | "]":
                    name = None
                    if path:
                        path.pop()
                case ",":
                    name = None
                case _:  # white space, numbers, or what is no JSON
                    continue
            last = -1


class _String:
    """A string as it is written in JSON; one without an end goes on to that of the text."""

    def __init__(self, lexeme: str) -> None:
        is_closed = len(lexeme) > 1 and lexeme.endswith('"')
        self._end = '"' if is_closed else ""
        body = lexeme[1:-1] if is_closed else lexeme[1:]
        self._units: list[str] = _UNITS.findall(body) if "\\" in body else []
        self.text = "".join(map(_decode, self._units)) if self._units else body
        """What it says."""

    def edited(self, edit: Edit) -> str:
        """Write what `edit` makes of it, every character as the one was that it replaces."""
        text = edit(self.text)
        if self._units:
            pairs = zip(text, self._units, strict=True)
            text = "".join(_encode(character, unit) for character, unit in pairs)
        return f'"{text}{self._end}'


def _decode(unit: str) -> str:
    """The one character that a unit of a string stands for."""
    if len(unit) == 1:
        return unit
    if unit[1] == "u" and len(unit) > 2:  # noqa: PLR2004 -- a backslash and a letter
        code = int(unit[2:6], 16)
        if len(unit) > 6:  # noqa: PLR2004 -- two surrogates
            code = 0x10000 + ((code & 0x3FF) << 10) + (int(unit[8:], 16) & 0x3FF)
        return chr(code)
    return _ESCAPES.get(unit[1], unit[1] if unit[1] in '"\\/' else "\\")


def _encode(character: str, unit: str) -> str:
    """Write a character as the one of the unit was written."""
    if len(unit) == 1 or character == _decode(unit):
        return character if len(unit) == 1 else unit
    return "".join(
        f"\\u{int.from_bytes(pair, 'big'):04x}" for pair in _pairs(character.encode("utf-16-be"))
    )


def _pairs(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 2] for at in range(0, len(data), 2))
