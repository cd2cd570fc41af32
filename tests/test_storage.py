"""Folders of this machine and of an object store."""

import pytest
from object_store import object_store
from zoos import refusal

from scopenet.errors import ConfigError
from scopenet.storage import _connect, files_in, local_path, open_folder, read_file


@pytest.fixture(scope="module")
def query():
    with object_store("shelf") as query:
        yield query


@pytest.fixture(params=["path", "file", "s3"])
def name(request, tmp_path, query):
    places = {"path": f"{tmp_path}/new/place", "file": f"file://{tmp_path}/place"}
    return places.get(request.param, f"s3://shelf/{tmp_path.name}/place{query}")


def test_files_are_there_whole_or_not_at_all(name):
    folder = open_folder(name)
    assert folder.names() == []
    with folder.writing("a.txt") as path:
        path.write_text("first")
        assert folder.names() == [] and not folder.has("a.txt")
    assert folder.has("a.txt")
    assert (folder.names(), folder.read("a.txt")) == (["a.txt"], b"first")
    with pytest.raises(KeyboardInterrupt), folder.writing("a.txt") as path:
        path.write_text("sec")
        raise KeyboardInterrupt
    assert (folder.names(), folder.read("a.txt")) == (["a.txt"], b"first")
    with folder.writing("a.txt") as path:
        path.write_text("second")
    assert open_folder(name).read("a.txt") == b"second"
    folder.remove("a.txt")
    folder.remove("a.txt")
    assert folder.names() == [] and not folder.has("a.txt")


def test_files_are_listed_by_addresses_that_can_be_read(query):
    folder = open_folder(f"s3://shelf/listed/{query}")
    for name in ("b.txt", "a.txt", "c.txt"):
        with folder.writing(name) as path:
            path.write_text(name)
    expected = [f"s3://shelf/listed/{x}.txt{query}" for x in "abc"]
    assert files_in(f"s3://shelf/listed{query}") == files_in(f"s3://shelf/listed/{query}")
    assert files_in(f"s3://shelf/listed{query}") == expected
    assert [read_file(x) for x in expected] == [b"a.txt", b"b.txt", b"c.txt"]
    assert files_in(f"s3://shelf/absent{query}") == []
    with pytest.raises(FileNotFoundError):
        read_file(f"s3://shelf/listed/d.txt{query}")


def test_names_may_have_any_characters(query):
    """Spaces and percent signs are no part of an address's syntax here."""
    folder = open_folder(f"s3://shelf/a b/50%20 #1{query}")
    with folder.writing("ü 1%.png") as path:
        path.write_text("found")
    (address,) = files_in(f"s3://shelf/a b/50%20 #1{query}")
    assert address == f"s3://shelf/a b/50%20 #1/ü 1%.png{query}" and read_file(address) == b"found"


def test_a_store_is_connected_to_once(query):
    open_folder(f"s3://shelf/once{query}")
    before = _connect.cache_info().misses
    for i in range(3):
        with pytest.raises(FileNotFoundError):
            read_file(f"s3://shelf/once/{i}{query}")
    assert _connect.cache_info().misses == before


def test_places_that_cannot_be(tmp_path, query):
    with pytest.raises(ConfigError, match="a.txt cannot be written to s3://nowhere/x"):
        with open_folder(f"s3://nowhere/x{query}").writing("a.txt") as path:
            path.write_text("a")
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        assert "is a file, or below one" in refusal(open_folder, str(tmp_path / name))
    assert "ftp://x/y is no address" in refusal(open_folder, "ftp://x/y")
    assert local_path("file:///a b/c") == "/a b/c" and local_path("s3://a/b") == "s3://a/b"


@pytest.mark.slow  # it is tried again for six seconds
def test_a_store_where_nobody_answers_is_one_sentence():
    uri = "s3://shelf/a?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    assert refusal(open_folder(uri).has, "a.txt").startswith(f"{uri} cannot be read: OSError, ")
