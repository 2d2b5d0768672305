"""What others sent, made fit for a terminal or a log. No I/O here."""


def escape(text: str) -> str:
    """Replace whatever could do more than be read: control characters, line ends, directions.

    A backslash stays as it is: the result is for people, not to be read back.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
