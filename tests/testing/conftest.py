"""Tests of the toolkit run its worlds very often."""

from tests.untraced import untraced

__all__ = ["untraced"]
