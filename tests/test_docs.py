"""What the documents say can be typed: Python blocks run, commands have the options, links lead."""

import argparse
import ast
import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from conftest import EXAMPLES, ROOT, run_python

import runtime
from hscaunet.__main__ import VERBS

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOREIGN = ("build", "pip", "pytest", "ruff", "venv")  # modules of somebody else
LANGUAGES = ("", "bash", "json", "python", "sh", "text")
_FENCE = re.compile(r"^```(\w*) *(.*)$")
_NOT_RUN = re.compile(r'title="not run: (.{10,})"')

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands beside that, its first line's number, its text."""

    language: str
    title: str
    line: int
    text: str


def parts_of(path: Path) -> tuple[list[Block], str]:
    """The fenced blocks of a document, and what is left of it without them."""
    blocks, prose, held, opened = [], [], [], None
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, held = (fence[1], fence[2].strip(), number + 1), []
        elif opened is None:
            prose.append(line)
        elif line == "```":
            blocks.append(Block(*opened, "\n".join(held) + "\n"))
            opened = None
        else:
            held.append(line)
    assert opened is None, f"{path.name}: the block at line {opened} has no end"
    return blocks, "\n".join(prose)


@cache
def parser_of(module: str) -> argparse.ArgumentParser:
    """The command line of ``python -m module``."""
    found = import_module(module)
    if hasattr(found, "__path__"):
        found = import_module(f"{module}.__main__")
    return found.build_parser()


def problem_with(module: str, args: list[str]) -> str:
    """What the module's own parser says against these arguments; empty if nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser_of(module).parse_args(args)
    except SystemExit:  # --help ends so too, and says nothing here
        pass
    return said.getvalue()


def command_of(words: list[str]) -> tuple[str, list[str]] | None:
    """Module and arguments of a command of this project, or None."""
    program = Path(words[0]).name
    if program == "hscaunet":
        if words[1].startswith("-"):
            assert words[1] in ("--help", "--version"), words
            return None
        assert words[1] in VERBS, f"there is no verb {words[1]}"
        return VERBS[words[1]][0], words[2:]
    if program in ("python", "python3") and words[1] == "-m" and words[2] not in FOREIGN:
        return words[2].rstrip(","), words[3:]
    return None


def commands_of(text: str) -> list[list[str]]:
    """The commands of a shell block, as words; redirections are left out."""
    text = re.sub(r"\\\n", " ", text)
    found: list[list[str]] = []
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#(\s.*)?$", "", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        skip = False
        for word in [*lexer, ";"]:
            if word in ("|", "||", "&&", ";", "&"):
                found += [words] if words else []
                words = []
            elif set(word) <= set("<>"):
                skip = True  # the file that comes next is the shell's
            elif skip:
                skip = False
            else:
                words.append(word)
    return found


@documents
def test_python_blocks_run(path, tmp_path):
    blocks, _ = parts_of(path)
    script = ["names = {'__name__': 'block'}"]
    for block in blocks:
        assert block.language in LANGUAGES, f"{path.name}:{block.line}: {block.language}"
        if block.language != "python":
            continue
        if block.title:
            assert _NOT_RUN.fullmatch(block.title), f"{path.name}:{block.line}: say why not"
            compile(block.text, path.name, "exec")
            continue
        source = "\n" * (block.line - 1) + block.text  # so that errors name the document's line
        script.append(f"exec(compile({source!r}, {str(path)!r}, 'exec'), names)")
    if len(script) == 1:
        return
    cwd = tmp_path / "examples"
    shutil.copytree(EXAMPLES, cwd)
    (cwd / "run_blocks.py").write_text("\n".join(script), "utf-8")
    done = run_python("run_blocks.py", cwd=cwd, timeout=120, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


@documents
def test_commands_have_these_options(path):
    blocks, _ = parts_of(path)
    for block in blocks:
        if block.language not in ("bash", "sh"):
            continue
        for words in commands_of(block.text):
            where = f"{path.name}:{block.line}: {shlex.join(words)}"
            if (command := command_of(words)) is not None:
                module, args = command
                problem = problem_with(module, args)
                assert not problem, f"{where}\n{problem}"
            elif Path(words[0]).name in ("python", "python3", "bash") and words[1] != "-m":
                # A script makes its parser inside main(): its text is looked into.
                script = ROOT / words[1]
                assert script.is_file(), where
                for word in words[2:]:
                    assert not word.startswith("--") or word in script.read_text("utf-8"), where


@documents
def test_commands_within_sentences_exist(path):
    _, prose = parts_of(path)
    for code in re.findall(r"`([^`]+)`", prose):
        words = code.split()
        if words[0] not in ("hscaunet", "python") or words[1:] in ([], ["-m"], ["VERB"]):
            continue
        if (command := command_of(words)) is not None:
            module, args = command
            known = parser_of(module)._option_string_actions
            for word in args:
                option = word.partition("=")[0].strip("[],")
                assert not option.startswith("-") or option in known, f"{path.name}: {code}"
        elif words[1] != "-m" and words[0] == "python":
            assert (ROOT / words[1]).is_file(), f"{path.name}: {code}"


def anchors_of(path: Path) -> set[str]:
    """What a link into a document can name, as GitHub makes it of headings."""
    _, prose = parts_of(path)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@documents
def test_links_lead_somewhere(path):
    _, prose = parts_of(path)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?:|mailto:", link):
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{path.name} links to {link}"


def test_the_api_page_names_everything_public():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    for name in runtime.__all__:
        assert re.search(rf"`{name}\b", text), name
        thing = getattr(runtime, name)
        if isinstance(thing, type) and not issubclass(thing, Exception):
            for member in vars(thing):
                if not member.startswith("_"):
                    assert re.search(rf"`(Hints\.)?{member}\b", text), f"{name}.{member}"


def messages_in_sources() -> Iterator[str]:
    """The strings of the packages, with ... in the place of what is filled in."""
    for package in ("runtime", "export", "hscaunet", "calibration"):
        for path in (ROOT / package).rglob("*.py"):
            inside = set()  # parts of a longer string, which comes first
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    inside.update(map(id, node.values))
                    yield "".join(
                        part.value if isinstance(part, ast.Constant) else "..."
                        for part in node.values
                    )
                elif isinstance(getattr(node, "value", None), str) and id(node) not in inside:
                    yield node.value.replace("{}", "...")


def test_the_messages_explained_are_those_of_the_code():
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    cells = re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE)
    explained = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(explained) > 50
    sources = [
        (source, parts)
        for source in messages_in_sources()
        if sum(map(len, parts := source.split("..."))) > 30
    ]
    for message in explained:
        if re.match("No module named|cannot import name", message):
            continue  # Python's own
        said = [part.strip(" .;()") for part in message.split("...")]
        # All that the document quotes is in one string of the code, or the other way round.
        assert any(
            all(part in source for part in said) or all(part in message for part in parts)
            for source, parts in sources
        ), message


def test_every_document_can_be_reached_from_the_readme():
    _, prose = parts_of(ROOT / "README.md")
    for path in DOCUMENTS[1:]:
        assert f"({path.relative_to(ROOT).as_posix()}" in prose, path.name
