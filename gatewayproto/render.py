"""Transition tables drawn as text: what the documentation shows is what the machines run.

Pure functions of a `gatewayproto._table.Table`, such as `gatewayproto.connection.CONNECTION_TABLE`
and `gatewayproto.client.CLIENT_TABLE`. Equal tables give equal text.

Spec: the architecture page, "Said in tables".
"""

from enum import Enum
from typing import Final, TypeVar

from gatewayproto._table import Cell, Handler, Table, Verdict

_S = TypeVar("_S", bound=Enum)
_I = TypeVar("_I", bound=Enum)

_WORDS: Final = {
    Verdict.HANDLED: "",
    Verdict.PEER_FAULT: "fault: ",
    Verdict.RACE: "race: ",
    Verdict.IGNORED: "ignored",
    Verdict.CALLER_MISTAKE: "mistake",
}


def markdown(table: Table[_S, _I]) -> str:
    """Draw a table in Markdown: a row for each input, a column for each state.

    A cell names its handler, or says what the input is where there is none, and then the states
    that the machine may be left in; without any, it stays where it is.
    """
    states = list(table.states)
    rows = [
        ["input", *(str(state.value) for state in states)],
        ["---"] * (len(states) + 1),
    ]
    rows += [
        [str(input_.value), *(_cell(state, table[state, input_]) for state in states)]
        for input_ in table.inputs
    ]
    return "".join("| " + " | ".join(map(_escaped, row)) + " |\n" for row in rows)


def handlers(table: Table[_S, _I]) -> str:
    """List a table's handlers in Markdown, in the order of the table, with what each does."""
    found: dict[Handler, None] = {}
    for input_ in table.inputs:
        for state in table.states:
            handler = table[state, input_].handler
            if handler is not None:
                found[handler] = None
    return "".join(f"- `{_name(handler)}`: {_first_line(handler)}\n" for handler in found)


def mermaid(table: Table[_S, _I]) -> str:
    """Draw the moves from one state to another as a Mermaid `stateDiagram-v2`.

    The first state is the initial one; one that no input leads out of is final. Inputs that leave
    a machine where it is are not drawn.
    """
    states = list(table.states)
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{state.value}" as {_identifier(state)}' for state in states]
    lines.append(f"    [*] --> {_identifier(states[0])}")
    for state in states:
        moves: dict[_S, list[str]] = {}
        for input_ in table.inputs:
            for end in _ends(state, table[state, input_]):
                moves.setdefault(end, []).append(str(input_.value))
        lines += [
            f"    {_identifier(state)} --> {_identifier(end)}: {' / '.join(moves[end])}"
            for end in states
            if end in moves
        ]
        if not moves:
            lines.append(f"    {_identifier(state)} --> [*]")
    return "\n".join(lines) + "\n"


def _cell(state: _S, cell: Cell[_S]) -> str:
    text = _WORDS[cell.verdict]
    if cell.handler is not None:
        text += f"`{_name(cell.handler)}`"
    elif cell.verdict is Verdict.RACE:
        text = "too late"
    ends = _ends(state, cell)
    if not ends:
        return text
    stays = [state] if state in cell.ends else []
    return f"{text} → {' or '.join(str(end.value) for end in [*stays, *ends])}"


def _ends(state: _S, cell: Cell[_S]) -> list[_S]:
    """The other states that a cell may end in, in the order of their class."""
    return [end for end in type(state) if end in cell.ends and end is not state]


def _name(handler: Handler) -> str:
    return f"{handler.__module__.rpartition('.')[2]}.{handler.__name__}"


def _first_line(handler: Handler) -> str:
    return (handler.__doc__ or "").strip().partition("\n")[0]


def _identifier(state: Enum) -> str:
    return state.name.lower()


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
