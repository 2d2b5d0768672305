"""Mutants of the core: mutmut's operators, and four of our own that take a guard or an act away.

A mutant is one function's source with one place changed. What only people read is left alone:
annotations, docstrings, and text with a space in it, which in this package is a sentence.
"""

import ast
import difflib
import textwrap
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, Final

import libcst as cst
import libcst.matchers as m
from attrs import frozen
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from tests.mutation.survivors import CORE, Key

_OURS: Final = "guard"
_MUTMUT: Final = "mutmut"


@frozen
class Mutant:
    """One change. `before` and `after` are the lines that differ, without their indentation.

    `code` and `defaults` are the changed function's, `source` is the whole module's.
    """

    module: str
    function: str
    family: str
    first_line: int
    last_line: int
    function_lines: range
    before: str
    after: str
    code: CodeType
    defaults: tuple[Any, ...]
    source: str

    @property
    def key(self) -> Key:
        """What tells it from every other mutant, also when lines have moved."""
        return self.module, self.function, self.before, self.after


def core_modules() -> list[str]:
    """The names of the core's modules: the testing toolkit is none of them."""
    return sorted(path.stem for path in CORE.glob("*.py") if path.stem != "__init__")


def mutants_of(module: str) -> Iterator[Mutant]:
    """Every mutant of one module's functions, each once, in the order of their source."""
    source = (CORE / f"{module}.py").read_text()
    wrapper = MetadataWrapper(cst.parse_module(source))
    tree = wrapper.module
    positions = wrapper.resolve(PositionProvider)
    seen: set[tuple[str, str, str, int]] = set()
    for family, visitor in ((_MUTMUT, _Visitor(mutation_operators)), (_OURS, _Visitor(_GUARDS))):
        wrapper.visit(visitor)
        for mutation in visitor.mutations:
            function = mutation.contained_by_top_level_function
            if not isinstance(function, cst.FunctionDef):
                continue  # a statement of a module or of a class body runs at import
            changed = cst.ensure_type(
                deep_replace(function, mutation.original_node, mutation.mutated_node),
                cst.FunctionDef,
            )
            owner, name = _owner(tree, function), function.name.value
            text = tree.code_for_node(changed)
            original = tree.code_for_node(function)
            before, after = _difference(original, text)
            whole, span = positions[function], positions[_placed(mutation, positions, function)]
            identity = (name, before, after, span.start.line)
            code = _compile(text, name, owner, f"{module}.py")
            if not before or identity in seen or code is None:
                continue
            seen.add(identity)
            yield Mutant(
                module=module,
                function=f"{owner}.{name}" if owner else name,
                family=family,
                first_line=span.start.line,
                last_line=span.end.line,
                function_lines=range(whole.start.line + 1, whole.end.line + 1),
                before=before,
                after=after,
                code=code,
                defaults=_defaults(changed, function),
                source=source.replace(_placed_in(owner, original), _placed_in(owner, text), 1),
            )


class _Visitor(MutationVisitor):
    """Mutmut's, which leaves decorated functions out: here nothing is copied, so none need be."""

    def __init__(self, operators: Any) -> None:
        super().__init__(operators, IgnoredCode(set(), set(), set()))

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator) or _is_prose(node):
            return True
        if isinstance(node, cst.Call) and m.matches(
            node.func, m.Name("len") | m.Name("isinstance")
        ):
            return True
        return isinstance(node, cst.Param) and not (
            node.default is None or isinstance(node.default, cst.Name | cst.BaseNumber)
        )

    def _create_mutations(self, node: cst.CSTNode) -> None:
        if isinstance(node, cst.Raise):
            return
        before = len(self.mutations)
        super()._create_mutations(node)
        if isinstance(node, cst.Call):
            kept = [each for each in self.mutations[before:] if not _changes_prose(node, each)]
            self.mutations[before:] = kept


def _is_prose(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.FormattedString | cst.ConcatenatedString):
        return True
    return isinstance(node, cst.SimpleString) and " " in node.value


def _changes_prose(call: cst.Call, mutation: Mutation) -> bool:
    """Whether a mutant of a call only takes a sentence out of it."""
    changed = mutation.mutated_node
    if not isinstance(changed, cst.Call) or len(changed.args) != len(call.args):
        return False
    pairs = zip(call.args, changed.args, strict=True)
    return any(_is_prose(old.value) and old is not new for old, new in pairs)


# -- operators beyond mutmut's ----------------------------------------------------------------


def _force_if(node: cst.If | cst.IfExp | cst.While) -> Iterable[cst.CSTNode]:
    """Take a guard away, and let it hold always."""
    yield node.with_changes(test=cst.Name("False"))
    if isinstance(node, cst.If):
        yield node.with_changes(test=cst.Name("True"))


def _drop_filter(node: cst.CompIf) -> Iterable[cst.CSTNode]:
    yield node.with_changes(test=cst.Name("True"))


def _drop_case_guard(node: cst.MatchCase) -> Iterable[cst.CSTNode]:
    if node.guard is not None:
        yield node.with_changes(guard=cst.Name("False"))
        yield node.with_changes(guard=cst.Name("True"))


def _drop_call(node: cst.Expr) -> Iterable[cst.CSTNode]:
    """Leave an act out: a statement that is nothing but a call."""
    if isinstance(node.value, cst.Call):
        yield node.with_changes(value=cst.Name("None"))


_GUARDS: Final = [
    (cst.If, _force_if),
    (cst.While, _force_if),
    (cst.CompIf, _drop_filter),
    (cst.MatchCase, _drop_case_guard),
    (cst.Expr, _drop_call),
]


# -- source -----------------------------------------------------------------------------------


def _owner(tree: cst.Module, function: cst.FunctionDef) -> str:
    """The class that a function is a method of, or nothing."""
    for statement in tree.body:
        if isinstance(statement, cst.ClassDef) and function in statement.body.body:
            return statement.name.value
    return ""


def _placed_in(owner: str, function: str) -> str:
    return textwrap.indent(function, "    ") if owner else function


def _placed(mutation: Mutation, positions: Any, function: cst.FunctionDef) -> cst.CSTNode:
    node = mutation.original_node
    return node if node in positions else function


def _difference(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, stripped."""
    old, new = _lines(before), _lines(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    if not changes:
        return "", ""
    _, i1, _, j1, _ = changes[0]
    _, _, i2, _, j2 = changes[-1]
    if i1 == i2:  # nothing but new lines: name the one before them
        i1, j1 = i1 - 1, j1 - 1
    return "\n".join(old[i1:i2]), "\n".join(new[j1:j2])


def _lines(source: str) -> list[str]:
    return [line.strip() for line in source.splitlines()]


def _compile(function: str, name: str, owner: str, filename: str) -> CodeType | None:
    """The code of a function, compiled as a method where it is one; None where it does not."""
    source = f"class {owner}:\n{_placed_in(owner, function)}" if owner else function
    try:
        code = compile(source, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    if owner:
        code = _code_in(code, owner)
    return _code_in(code, name)


def _code_in(code: CodeType, name: str) -> CodeType:
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)


def _defaults(changed: cst.FunctionDef, original: cst.FunctionDef) -> tuple[Any, ...]:
    """The names and values of the defaults that a mutation changed."""
    found: list[tuple[str, Any]] = []
    for new, old in zip(_parameters(changed), _parameters(original), strict=True):
        if new.default is not None and not new.default.deep_equals(_default(old)):
            text = cst.Module([]).code_for_node(new.default)
            found.append((new.name.value, ast.literal_eval(text)))
    return tuple(found)


def _default(parameter: cst.Param) -> cst.BaseExpression:
    assert parameter.default is not None
    return parameter.default


def _parameters(function: cst.FunctionDef) -> list[cst.Param]:
    params = function.params
    return [*params.posonly_params, *params.params, *params.kwonly_params]
