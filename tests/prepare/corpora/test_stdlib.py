"""The standard library as code and as prose, against Python's own import system."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

from triarch.errors import UserError
from triarch.prepare.corpora.stdlib import StdlibCode, StdlibProse


@pytest.fixture(scope="module")
def code():
    return {document.key: document for document in StdlibCode().documents()}


@pytest.fixture(scope="module")
def prose():
    return {document.key: document for document in StdlibProse().documents()}


def test_code_is_the_modules_source(code):
    for name in ("argparse", "json.decoder", "collections", "this"):
        path = importlib.util.find_spec(name).origin
        key = next(key for key in code if path.endswith(f"/{key}"))
        with open(path, encoding="utf-8", newline="") as file:
            assert code[key].text == file.read()


def test_no_tests_packages_or_tables(code):
    parts = {part for key in code for part in key.split("/")[:-1]}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "encodings", "pydoc_data", "__pycache__"}
    assert not any("gencodec.py" in document.text for document in code.values())
    assert list(code) == sorted(code)


@pytest.mark.slow
def test_every_machine_has_enough(code, prose):
    assert sum(len(document.text) for document in code.values()) > 5_000_000
    assert sum(len(document.text) for document in prose.values()) > 1_000_000


@pytest.mark.slow
def test_prose_is_topics_and_docstrings(prose):
    from pydoc_data.topics import topics

    assert prose["topic assert"].text == topics["assert"]
    assert {key for key in prose if key.startswith("topic ")} == {f"topic {name}" for name in topics}
    text = prose["textwrap.py"].text
    import textwrap

    expected = [textwrap, textwrap.TextWrapper, textwrap.TextWrapper.wrap, textwrap.shorten, textwrap.dedent]
    positions = [text.index(inspect.getdoc(thing)) for thing in expected]
    assert positions == sorted(positions) and positions[0] == 0


def test_prose_is_no_code(prose):
    for key in ("textwrap.py", "argparse.py"):
        with pytest.raises(SyntaxError):
            ast.parse(prose[key].text)


def test_a_module_is_held_out_of_both(code, prose):
    modules = {key for key in prose if not key.startswith("topic ")}
    assert modules <= set(code)


def test_nothing_is_imported():
    program = (
        "import sys, os, pathlib; from triarch.prepare.corpora.stdlib import StdlibProse;"
        "prose = StdlibProse(pathlib.Path(os.__file__).parent / 'wsgiref');"
        "before = set(sys.modules); print(len(list(prose.documents())));"
        "print(set(sys.modules) - before)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["7", "set()"] and result.stderr == ""


def _module(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_docstring_in_order(tmp_path):
    handler = "except OSError:\n  class C:\n    'C'\nx = 'no'"
    _module(tmp_path, "b.py", f'"""b"""\ntry:\n  def f():\n    """f\n    more"""\n{handler}')
    _module(tmp_path, "a/c.py", "async def g():\n  'g'\n  match 1:\n    case 1:\n      def h(): 'h'\n")
    _module(tmp_path, "empty.py", "x = 1\n")
    _module(tmp_path, "tests/t.py", "'t'")
    found = [(document.key, document.text) for document in StdlibProse(tmp_path).documents()]
    assert found == [("a/c.py", "g\n\nh"), ("b.py", "b\n\nf\nmore\n\nC")]
    assert [document.key for document in StdlibCode(tmp_path).documents()] == ["a/c.py", "b.py", "empty.py"]


def test_a_python_without_sources(tmp_path):
    with pytest.raises(UserError, match=r"keeps no \.py files"):
        list(StdlibCode(tmp_path).documents())
