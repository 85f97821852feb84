"""JSON of strangers: what is refused, and what the line says."""

import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triarch import schema
from triarch.errors import UserError
from triarch.schema import Anything, Digest, FileName, Flag, Items, MapOf, Number, OrNull, Record, Text, Whole

KIND = Record(
    {
        "name": FileName(),
        "size": Whole(1, 100),
        "kind": Text(("bytes", "sentencepiece")),
        "sizes": Items(Whole(), 2, 2),
        "whole": OrNull(Flag()),
        "files": MapOf(Digest(4), least=1, names=FileName(below=True)),
    }
)
RIGHT = {"name": "a", "size": 1, "kind": "bytes", "sizes": [1, 2], "files": {"a/b": "12ef"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size = 0: expected a whole number from 1 to 100"),
        ({"size": 101}, "size = 101: expected a whole number"),
        ({"size": 10**63}, r"size = 1000+\.\.\.: expected a whole number"),
        ({"size": True}, "size = true: expected a whole number"),
        ({"size": 1.0}, "size = 1.0: expected a whole number"),
        ({"size": None}, "size = null: expected a whole number"),
        ({"kind": "bites"}, r"unknown kind 'bites' \(did you mean 'bytes'"),
        ({"kind": 5}, "kind = 5: expected one of 'bytes', 'sentencepiece'"),
        ({"sizes": [1]}, r"sizes = \[1\]: expected a list of 2 values"),
        ({"sizes": [1, -1]}, r"sizes\[1\] = -1: expected a whole number"),
        ({"whole": "yes"}, "whole = 'yes': expected true or false"),
        ({"files": {}}, "files = {}: expected an object with 1 or more entries"),
        ({"files": {"a": "12"}}, "files.a = '12': expected 4 hexadecimal digits"),
        ({"files": {"../a": "12ef"}}, r"a key of files = '\.\./a': expected the name of a file below this folder"),
        ({"nmae": 3}, r"unknown key 'nmae' \(did you mean 'name'"),
        *(({"name": name}, "name = .*: expected the name of a file of this folder") for name in
          ("", ".", "..", "/a", "a/b", "a/", "a\0b", "\ud800", "a" * 256)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message):
    schema.check(RIGHT, KIND, "file.json")
    with pytest.raises(UserError, match=rf"^file\.json: {message}") as error:
        schema.check(RIGHT | change, KIND, "file.json")
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_a_misspelt_key_is_found():
    fields = {("sise" if key == "size" else key): value for key, value in RIGHT.items()}
    with pytest.raises(UserError, match=r"no key 'size' \(did you mean 'sise'\?\): expected a whole number"):
        schema.check(fields, KIND, "file.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000 + "]" * 200_000, "nested more than 64 levels deep"),
        ('{"a":' * 65 + "[]" + "}" * 65, "nested more than 64 levels deep"),
        ("9" * 5000, "an integer of 5,000 digits"),
        ("1e999", "1e999 is no finite number"),
        ("NaN", "NaN is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ('{"a": ', "not JSON"),
        ("", "not JSON"),
        (b'"\xff"', r"not UTF-8 text \(byte 1\)"),
    ],
)
def test_what_is_not_read(text, message):
    with pytest.raises(UserError, match=rf"^file\.json: .*{message}") as error:
        schema.parse(text, "file.json")
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_what_is_read():
    # As tokenizers' files have it.
    assert schema.parse('{"model_max_length": 1000000000000000019884624838656}', "x")["model_max_length"] > 10**30
    assert schema.parse("[" * 64 + "]" * 64, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KIND.keys, "x"]), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=json_values)
def test_no_value_gets_through_or_breaks_it(value):
    with pytest.raises(UserError, match=r"^file\.json: "):
        schema.check(value, Record({**KIND.keys, "never": Items(Anything(), 99, 99)}), "file.json")


def test_files(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError):
        schema.read(path, KIND)
    path.write_text("[1, 2]")
    assert schema.read(path, Items(Whole())) == [1, 2]
    with pytest.raises(UserError, match=r"a\.json: has 6 bytes, expected at most 5"):
        schema.read(path, KIND, most_bytes=5)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"a\.json: is a FIFO, expected a regular file"):
        schema.read(path, KIND)


def test_half_a_character_is_refused_wherever_it_stands():
    for text in ('"\\ud800"', '{"a": ["\\udfff"]}', '{"\\uD83D": 1}', '"\ud800"'):
        with pytest.raises(UserError, match=r"x: not read: half a character"):
            schema.parse(text, "x")
    assert schema.parse('"\\ud83d\\ude00"', "x") == "\U0001f600"
    assert schema.parse(b'\xef\xbb\xbf"a"', "x") == "a"
    with pytest.raises(UserError, match="x: not UTF-8 text"):
        schema.parse('"a"'.encode("utf-16"), "x")


def test_measurements_may_be_no_numbers():
    assert schema.parse("[1e999, -Infinity]", "x", finite=False) == [math.inf, -math.inf]
    for text in ("1e999", "NaN", "-Infinity"):
        with pytest.raises(UserError, match="no finite number"):
            schema.parse(text, "x")


def test_numbers():
    for value in (0, -1.5, 10**300):
        assert schema.check(value, Number(), "x") == value
    for value in (True, "1", None, math.inf, math.nan, 10**400):
        with pytest.raises(UserError, match="expected a number"):
            schema.check(value, Number(), "x")


def test_a_link_is_followed_within_its_home_alone(tmp_path):
    folder, secret = tmp_path / "model", tmp_path / "secret.json"
    (folder / "inner").mkdir(parents=True)
    secret.write_text("[1]")
    (folder / "own.json").write_text("[2]")
    (folder / "out.json").symlink_to("../secret.json")
    (folder / "inner" / "up.json").symlink_to("../own.json")
    (folder / "loop.json").symlink_to("loop.json")
    for path, home in {folder / "out.json": None, folder / "inner" / "up.json": None}.items():
        with pytest.raises(UserError, match=rf"{path.name}: a link out of .* is not followed"):
            schema.read(path, Items(Whole()), home=home)
    with pytest.raises(UserError, match=r"loop\.json: cannot be read: Too many levels of symbolic links"):
        schema.read(folder / "loop.json", Items(Whole()))
    assert schema.read(folder / "inner" / "up.json", Items(Whole()), home=folder) == [2]
    assert schema.read(folder / "out.json", Items(Whole()), home=schema.ANYWHERE) == [1]


def test_files_of_hugging_faces_cache_are_links_within_it(tmp_path):
    folder, blob = tmp_path / "models--a--b" / "snapshots" / "1f", tmp_path / "models--a--b" / "blobs" / "2e"
    for path in (folder, blob.parent):
        path.mkdir(parents=True)
    blob.write_text("[1]")
    (folder / "config.json").symlink_to("../../blobs/2e")
    assert schema.read(folder / "config.json", Items(Whole())) == [1]
