"""The specification's table of errors, and which closes a client may come back after."""

from typing import get_args

import pytest

from gatewayproto.errors import (
    CODE_OF_CLOSE,
    ERRORS,
    ErrorCode,
    ErrorSpec,
    FrameError,
    LocalProtocolError,
    NextStep,
    close_may_be_retried,
)
from tests.wire_vocabulary import ERROR_CODES


def test_every_code_closes_and_goes_on_as_the_specification_says() -> None:
    found = {code.value: (spec.close_code, spec.next_step) for code, spec in ERRORS.items()}
    assert found == ERROR_CODES
    assert set(ERRORS) == set(ErrorCode)


def test_a_close_code_names_its_error_and_no_other() -> None:
    closing = {code: close for code, (close, _) in ERROR_CODES.items() if close is not None}
    assert {code.value: close for close, code in CODE_OF_CLOSE.items()} == closing
    assert len(CODE_OF_CLOSE) == len(closing)


@pytest.mark.parametrize(
    ("codes", "may"),
    [
        ([1000, 1001, 1005, 1006], True),
        ([1002, 1003, 1007, 1008, 1009, 1010], False),
        ([1011, 1012, 1013, 1014], True),
        (range(3000, 4000), True),
        (range(4000, 4500), True),
        (range(4500, 5000), False),
        ([None], True),
        ([-1, 0, 999, 1004, 1015, 1016, 2999, 5000, 65535, 2**60], True),
    ],
)
def test_which_closes_may_be_retried(codes: list[int | None], may: bool) -> None:
    assert {close_may_be_retried(code) for code in codes} == {may}


def test_what_a_next_step_says_is_what_the_close_code_says() -> None:
    retried = {
        spec.next_step: close_may_be_retried(spec.close_code)
        for spec in ERRORS.values()
        if spec.next_step in {"wait_then_retry", "do_not_retry", "upgrade_client"}
    }
    assert retried == {"wait_then_retry": True, "do_not_retry": False, "upgrade_client": False}
    assert {spec.next_step for spec in ERRORS.values()} <= {None, *get_args(NextStep)}


def test_the_three_kinds_of_failure_are_apart() -> None:
    assert not issubclass(FrameError, LocalProtocolError)
    assert not issubclass(LocalProtocolError, FrameError)
    assert not issubclass(LocalProtocolError, ValueError)


def test_a_frame_error_says_what_answers_it() -> None:
    error = FrameError(ErrorCode.INVALID_CURSOR, "no cursor")
    assert (error.code, error.detail, error.request_id) == (
        ErrorCode.INVALID_CURSOR,
        "no cursor",
        None,
    )
    assert FrameError(ErrorCode.MALFORMED_FRAME, "off", request_id="r").request_id == "r"
    assert "no cursor" in str(error)


def test_specs_are_values() -> None:
    assert ErrorSpec(4000, "wait_then_retry") == ERRORS[ErrorCode.GOING_AWAY]
