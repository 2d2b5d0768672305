"""The documentation says what is so: its programs run, its links lead somewhere, its ids hold."""

import ast
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import attrs
import msgspec
import pytest

from gatewayproto import frames
from gatewayproto._client_states import ClientState
from gatewayproto.client import CLIENT_TABLE
from gatewayproto.config import GatewayConfig
from gatewayproto.connection import CONNECTION_TABLE
from gatewayproto.errors import ERRORS
from gatewayproto.rates import Rate
from gatewayproto.versions import rejection_code_v1

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SPEC = DOCS / "spec.md"
ARCHITECTURE = DOCS / "architecture.md"
VERIFICATION = DOCS / "verification.md"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "tests" / "README.md",
        *(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0][0] != "_"),
    ]
)
SOURCES = sorted([*(ROOT / "gatewayproto").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")])

# What is written into a page at build time, and so is no file yet.
GENERATED = ("_api/",)

PYTHON = [sys.executable, "-X", "dev", "-W", "error"]
TIMEOUT = 60.0

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_RULE = re.compile(r"^\*\*([A-Z0-9]+)-(\d+)\.\*\*", re.MULTILINE)
_RULE_REFERENCE = re.compile(r"\b([A-Z][A-Z0-9]{2})-(\d+)\b")
_SPEC_REFERENCE = re.compile(r"\bSpec: ((?:[^.]|\.(?=\w))+)\.")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for kind, body in found if kind == language]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[str]:
    return _HEADING.findall(prose(page))


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts and the documentation's builder make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")


# -- programs ---------------------------------------------------------------------------------


def run(script: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*PYTHON, str(script), *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent.name == "how-to" and blocks(page, "python")],
    ids=name_of,
)
def test_the_program_of_a_page_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    assert run(script) == "".join(blocks(page, "output"))


def test_the_server_and_the_client_of_the_readme_work_when_pasted(tmp_path: Path) -> None:
    server, client = tmp_path / "server.py", tmp_path / "client.py"
    sources = blocks(ROOT / "README.md", "python")
    for script, source in zip((server, client), sources[:2], strict=True):
        script.write_text(source, encoding="utf-8")
    serving = subprocess.Popen(
        [*PYTHON, str(server), "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        ready, url = serving.stdout.readline().split()
        assert ready == "ready"
        assert run(client, url) == blocks(ROOT / "README.md", "output")[0]
        serving.send_signal(signal.SIGINT)
        rest, complaints = serving.communicate(timeout=TIMEOUT)
    finally:
        serving.kill()
        serving.communicate()
    assert (rest, complaints, serving.returncode) == ("", "", 0)


def test_the_program_of_the_readme_on_trio_works_when_pasted(tmp_path: Path) -> None:
    script = tmp_path / "on_trio.py"
    script.write_text(blocks(ROOT / "README.md", "python")[2], encoding="utf-8")
    assert run(script) == blocks(ROOT / "README.md", "output")[1]


def without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.unparse(tree)


def test_the_readme_shows_the_examples() -> None:
    shown = [ast.unparse(ast.parse(block)) for block in blocks(ROOT / "README.md", "python")]
    names = ("server.py", "client.py", "on_trio.py")
    examples = [ROOT / "examples" / name for name in names]
    assert shown == [without_docstrings(path.read_text(encoding="utf-8")) for path in examples]


# -- links ------------------------------------------------------------------------------------


def links(page: Path) -> Iterator[str]:
    """The targets within the project that a page links to."""
    for target in _LINK.findall(prose(page)):
        if "://" not in target and not target.startswith(("mailto:", *GENERATED)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken: list[str] = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.exists() and (not anchor or anchor in map(slug, headings(target))):
            continue
        broken.append(link)
    assert broken == []


def test_links_and_headings_are_found() -> None:
    assert "docs/how-to/server.md#serve-stop-and-go-on" in set(links(ROOT / "README.md"))
    assert slug("The client's side") == "the-clients-side"
    assert "The client's side" in headings(SPEC)


# -- the specification ------------------------------------------------------------------------


def test_every_rule_has_an_id_of_its_own_in_order() -> None:
    rules: dict[str, list[int]] = {}
    for section, number in _RULE.findall(SPEC.read_text(encoding="utf-8")):
        rules.setdefault(section, []).append(int(number))
    assert len(rules) > 15
    assert {section: sorted(set(numbers)) for section, numbers in rules.items()} == rules


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_rule_that_a_page_names_exists(page: Path) -> None:
    rules = set(_RULE.findall(SPEC.read_text(encoding="utf-8")))
    sections = {section for section, _ in rules}
    named = {rule for rule in _RULE_REFERENCE.findall(prose(page)) if rule[0] in sections}
    assert named - rules == set()


def test_every_error_code_is_specified_with_its_close_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{4}|–) \| (.+?) \|", prose(SPEC), re.MULTILINE)
    specified = {code: (close, steps) for code, close, steps in rows}
    assert set(specified) == {code.value for code in ERRORS}
    for code, spec in ERRORS.items():
        close, steps = specified[code.value]
        assert close == ("–" if spec.close_code is None else str(spec.close_code)), code
        assert (f"`{spec.next_step}`" if spec.next_step else "–") in steps, code
    for code in ERRORS:
        assert f"`{rejection_code_v1(code)}`" in prose(SPEC)


def test_every_frame_and_every_field_is_specified() -> None:
    quoted = set(re.findall(r"[`\"](\w+)\??[`\"]", prose(SPEC)))
    for cls in (*get_args(frames.ClientFrame), *get_args(frames.ServerFrame), frames.Event):
        fields = attrs.fields_dict(cls)
        kinds = get_args(fields["type"].type) if cls is not frames.Event else ()
        assert {*fields, *kinds} - quoted == set(), cls


def test_every_state_of_the_client_is_specified() -> None:
    table = prose(SPEC).partition("### States")[2].partition("## Version 1")[0]
    assert re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)[1:] == [*ClientState]


def bounds_of(annotation: Any) -> msgspec.Meta:
    """The bounds of a field's type."""
    (bounds,) = (each for each in get_args(annotation) if isinstance(each, msgspec.Meta))
    return bounds


def test_the_bounds_of_fields_are_specified() -> None:
    text = prose(SPEC)
    assert f"| `max_payload`? | integer from {frames.MIN_MAX_PAYLOAD} to 2^53 − 1 |" in text
    assert f"Less than {frames.MIN_MAX_PAYLOAD} is no `max_payload`" in text
    assert f"| *nonce* | string of at most {frames.MAX_NONCE} characters |" in text
    assert f"| *request id* | string of 1 to {frames.MAX_REQUEST_ID} characters |" in text
    agent_id = bounds_of(frames.AgentId).max_length
    assert f"| `agent_id` | *name*, at most {agent_id} characters |" in text
    said = bounds_of(frames.ShortText).max_length
    assert f"`name`?, `version`?, each a *string* of at most {said} characters" in text


def test_the_architecture_states_the_bounds_of_fields() -> None:
    text = " ".join(prose(ARCHITECTURE).split())
    assert bounds_of(frames.AgentId).max_length == frames.MAX_REQUEST_ID == frames.MAX_NONCE
    assert (
        f"an `agent_id`, a `request_id` and a `nonce` have at most {frames.MAX_NONCE} characters"
        in text
    )
    said = bounds_of(frames.ShortText).max_length
    assert f"a client's `name` and `version` {said};" in text
    assert f"| `max_payload`, at least {frames.MIN_MAX_PAYLOAD} bytes |" in text


_UNITS = {"": 1, "KiB": 1024, "MiB": 1024 * 1024}


def stated_defaults() -> Iterator[tuple[str, float]]:
    """The settings of the gateway and their defaults, as the table of bounds states them."""
    table = prose(ARCHITECTURE).partition("`GatewayConfig` |")[2].partition("| rate of")[0]
    for names, defaults in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", table, re.MULTILINE):
        if "(derived)" in names:
            continue
        numbers = re.findall(r"([\d,]*\d)(?: (KiB|MiB))?", defaults)
        for name, (number, unit) in zip(re.findall(r"`(\w+)`", names), numbers, strict=True):
            yield name, int(number.replace(",", "")) * _UNITS[unit]


def stated_rates() -> Iterator[tuple[str, Rate]]:
    """The rates and their defaults, as the table of rates states them."""
    table = prose(ARCHITECTURE).partition("| rate of")[2].partition("`ClientConfig` |")[0]
    for name, second, burst in re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", table, re.MULTILINE):
        yield name, Rate(float(second), int(burst))


def test_the_tables_of_bounds_state_the_defaults() -> None:
    config = GatewayConfig()
    stated: dict[str, object] = {**dict(stated_defaults()), **dict(stated_rates())}
    assert stated == {name: getattr(config, name) for name in stated}
    assert {field.name for field in attrs.fields(GatewayConfig)} - set(stated) == {
        "versions",
        "protocol_strict",
        "application_snapshots",
        "write_ahead",
        "retry_after",
        "projection",
    }


# -- the map of the tests ---------------------------------------------------------------------


def test_every_folder_and_every_helper_of_the_tests_is_listed() -> None:
    tests = ROOT / "tests"
    listed = re.findall(r"^\| `([\w./]+)` \|", prose(tests / "README.md"), re.MULTILINE)
    modules = {path.relative_to(tests) for path in tests.rglob("*.py")}
    folders = {path.parts[0] for path in modules if len(path.parts) > 1}
    helpers = {path.as_posix() for path in modules if not path.name.startswith("test_")}
    assert set(listed) == {"tests/"} | folders | helpers - {"bench/bench.py"}


def test_the_pictures_of_the_architecture_show_every_state() -> None:
    shown = "".join(blocks(ARCHITECTURE, "text"))
    named = set(re.findall(r"any state leads to \*(\w+)\*", prose(ARCHITECTURE)))
    for table in (CONNECTION_TABLE, CLIENT_TABLE):
        assert {state for state in table.states if state not in shown} <= named


def test_every_module_and_every_package_is_in_the_architecture() -> None:
    named = set(re.findall(r"`(\w+)`", prose(ARCHITECTURE)))
    modules = {path.stem for path in (ROOT / "gatewayproto").glob("*.py")} - {"__init__"}
    modules = {name for name in modules if not name.startswith("_client_")}
    packages = {path.parent.name for path in (ROOT / "adapters").glob("*/__init__.py")}
    shared = {path.stem for path in (ROOT / "adapters" / "gatewayproto_adapter").glob("*.py")}
    assert modules | packages | shared - {"__init__"} <= named


# -- references from the code -----------------------------------------------------------------


def references(path: Path) -> Iterator[str]:
    """What the docstrings of a module refer to, part by part."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "Spec:" in node.value:
            text = " ".join(node.value.split())
            found = _SPEC_REFERENCE.findall(text)
            assert len(found) == text.count("Spec:"), f"unreadable reference in {path}: {text}"
            for reference in found:
                yield from (part.strip() for part in reference.split(";"))


_NAMED_PAGES = {"architecture": ARCHITECTURE, "verification": VERIFICATION}


def is_known(reference: str) -> bool:
    for page, path in _NAMED_PAGES.items():
        if reference.startswith(f"the {page} page,"):
            section = re.search(r'"([^"]+)"', reference)
            return section is not None and section[1] in headings(path)
    if reference.startswith("the how-to "):
        titles = {headings(page)[0] for page in (DOCS / "how-to").glob("*.md")}
        return reference.removeprefix("the how-to ").strip('"') in titles
    if reference.startswith("the whole of it"):
        return True
    plain = re.sub(r" \([^)]*\)", "", reference)
    titles = set(headings(SPEC))
    # "The client's side, "Reconnecting"" names a section and one below it.
    return all(
        part.strip('" ') in titles or part.strip().startswith("`")
        for part in plain.removeprefix("the resume window of ").split(",")
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_section_that_the_code_names_exists(path: Path) -> None:
    assert [each for each in references(path) if not is_known(each)] == []


def test_references_are_found_and_judged() -> None:
    assert "Requests" in set(references(ROOT / "gatewayproto" / "requests.py"))
    assert not is_known("The wellcome")
    assert not is_known('the architecture page, "Nothing"')
