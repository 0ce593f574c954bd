"""The one helper that reads and writes files; what it does for weights, graphs and so on is tested with them."""

from __future__ import annotations

import gzip
import os
import re

import pytest

from crystalssl import LIMITS, _files


def test_content_up_to_the_limit_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"12345")
    monkeypatch.setattr(LIMITS, "json_bytes", 5)
    assert _files.read_bounded(tmp_path / "file", "json_bytes") == b"12345"
    monkeypatch.setattr(LIMITS, "json_bytes", 4)
    with pytest.raises(OSError, match=r"file has 5 bytes, more than the 4 of crystalssl.LIMITS.json_bytes; raise that"):
        _files.read_bounded(tmp_path / "file", "json_bytes")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="files that announce no size")
def test_file_that_announces_no_size_is_bounded(monkeypatch):
    monkeypatch.setattr(LIMITS, "json_bytes", 100)
    with pytest.raises(OSError, match=r"maps has more than the 100 bytes of crystalssl.LIMITS.json_bytes"):
        _files.read_bounded("/proc/self/maps", "json_bytes")


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device", "link to a FIFO"])
def test_what_is_no_file_is_named(tmp_path, hostile, kind):
    (tmp_path / "file").touch()
    hostile(tmp_path / "file", kind)
    with pytest.raises(OSError, match=rf"file is a {kind.removeprefix('link to a ')}, not a file"):
        _files.open_regular(tmp_path / "file")


def test_fifo_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, hostile, monkeypatch):
    path, stat = tmp_path / "file", os.stat

    def swap(where, *args, **kwargs):
        status = stat(where, *args, **kwargs)
        if where == path:
            hostile(path, "FIFO")
        return status

    path.touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", swap)
        with pytest.raises(OSError, match="file is a FIFO, not a file"):
            _files.open_regular(path)


def test_null_bytes_make_no_path():
    with pytest.raises(OSError, match=re.escape(r"'a\x00b' is no path: embedded null byte")):
        _files.open_regular("a\0b")


@pytest.mark.parametrize("content", [b"", b"text" * 10**6, os.urandom(10**5)])
def test_gzip_files_are_read(content):
    assert _files.decompress(gzip.compress(content)) == content
    parts = gzip.compress(content[:100]) + gzip.compress(content[100:])
    assert _files.decompress(parts) == content


@pytest.mark.parametrize(
    "change", [lambda packed: packed[:-1], lambda packed: b"x" + packed, lambda packed: packed[:30]]
)
def test_damaged_gzip_files_are_refused(change):
    with pytest.raises(OSError, match=r"."):
        _files.decompress(change(gzip.compress(os.urandom(1000))))


def test_limit_of_expansion_can_be_raised(monkeypatch):
    packed = gzip.compress(bytes(2**25))
    with pytest.raises(OSError, match=r"50 times, the crystalssl.LIMITS.expansion"):
        _files.decompress(packed)
    monkeypatch.setattr(LIMITS, "expansion", 2000)
    assert len(_files.decompress(packed)) == 2**25


def test_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    _files.write_atomically(path, b"old")

    def fail(source, target):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no"):
            _files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_names_of_parts_cannot_be_guessed(tmp_path, monkeypatch):
    seen, replace = [], os.replace

    def spy(source, target):
        seen.append(os.path.basename(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    for _ in range(2):
        _files.write_atomically(tmp_path / "file", b"")
    assert all(re.fullmatch(r"\.file-[0-9a-f]{16}", name) for name in seen)
    assert len(set(seen)) == 2


def test_what_is_left_in_a_staging_folder_stays(tmp_path):
    with _files.staging(tmp_path / "place") as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "new").mkdir()
        (folder / "new" / "file").touch()
        (folder / "old").mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == [folder.name, "old"]
