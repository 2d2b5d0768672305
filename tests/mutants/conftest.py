"""Known bugs are looked for by the toolkit, very often."""

from tests.untraced import untraced

__all__ = ["untraced"]
