"""Writing aside and moving into place."""

import json
import os

import pytest

from scopenet.atomic import write_file, write_json, write_text


def half_written(f):
    f.write(b"ne")
    f.flush()
    raise OSError(28, "no room")


def test_content_and_permissions(tmp_path):
    path = tmp_path / "a"
    write_file(path, lambda f: f.write(b"new"))
    assert path.read_bytes() == b"new"
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no room"):
        write_file(path, half_written)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_all_is_synced_before_it_is_moved(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: calls.append("fsync") or fsync(*a))
    monkeypatch.setattr(os, "replace", lambda *a: calls.append("replace") or replace(*a))
    write_file(tmp_path / "a", lambda f: f.write(b"new"))
    assert calls == ["fsync", "replace", "fsync"]


def test_text_and_json(tmp_path):
    path = tmp_path / "a"
    write_text(path, "größer\nkleiner\n")
    assert path.read_bytes() == "größer\nkleiner\n".encode()
    write_json(path, {"AP": [1.5, None]})
    assert json.loads(path.read_text()) == {"AP": [1.5, None]}


def test_what_json_cannot_say_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"path": path})
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]
