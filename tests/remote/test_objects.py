"""Objects in a bucket: whole or absent, made once, read again after what passes, and one line for what does not."""

import pytest

from triarch.errors import UserError
from triarch.remote import Objects, is_remote


def test_write_read_create_and_remove(bucket, tmp_path):
    assert bucket.sizes() == {} and bucket.read("a") is None
    bucket.write("a", b"xyz")
    assert bucket.create("b/c", b"1") and not bucket.create("b/c", b"2")
    assert bucket.sizes() == {"a": 3, "b/c": 1} and bucket.sizes("b") == {"b/c": 1}
    assert bucket.read_range("a", 1, 3) == b"yz"
    bucket.download_all(bucket.sizes(), tmp_path)
    assert (tmp_path / "b/c").read_bytes() == b"1"
    bucket.remove(["a", "not there"])
    assert bucket.sizes() == {"b/c": 1}


def test_a_busy_server_is_asked_again_and_a_refusal_is_one_line(bucket, faults, tmp_path):
    faults("pipe_file", OSError("503"), ConnectionResetError("cut"))
    bucket.write("a", b"xyz")
    faults("cat_file", TimeoutError(), None)
    assert bucket.read("a") == b"xyz"
    faults("pipe_file", *[OSError("503 Service Unavailable")] * 3)
    with pytest.raises(UserError, match=r"^memory://bucket/run: cannot be written: 503 Service Unavailable$"):
        bucket.write("b", b"")
    faults("pipe_file", PermissionError("403: triarch@x does not have storage.objects.create access"), None)
    with pytest.raises(UserError, match="cannot be written: 403: triarch@x does not have"):
        bucket.check_writable()
    assert "b" not in bucket.sizes()


def test_what_comes_short_is_no_file(bucket, faults, tmp_path):
    bucket.write("a", b"xyz")
    with pytest.raises(UserError, match="memory://bucket/run/a: cannot be read: 3 of 4 bytes came"):
        bucket.download_all({"a": 4}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_that_lead_out_of_a_folder_are_refused(bucket, tmp_path):
    for name in ("../a", "a/../../b", "a//b", "a\\b"):
        with pytest.raises(UserError, match="names no file in a folder"):
            bucket.download_all({name: 1}, tmp_path)


def test_urls():
    assert is_remote("gs://b/x") and is_remote("memory://b") and not is_remote("a/b") and not is_remote("/gs:/b")
    with pytest.raises(UserError, match="nowhere://b: Protocol not known: nowhere"):
        Objects("nowhere://b")
