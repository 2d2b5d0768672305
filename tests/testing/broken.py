"""Machines with a guard taken out, for tests of the layers that must notice."""

from typing import Any

import pytest

from gatewayproto import handshake


def resume_below_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway resumes whoever is below what it still has, and says nothing."""
    resync_reason: Any = handshake.resync_reason

    def patched(*arguments: Any) -> Any:
        reason = resync_reason(*arguments)
        return None if reason == "trimmed" else reason

    monkeypatch.setattr(handshake, "resync_reason", patched)
