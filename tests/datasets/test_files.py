import dataclasses
import functools
import hashlib
import http.server
import socket
import stat
import threading
from pathlib import Path

import pytest

from crystalssl.datasets import get_data_home
from crystalssl.datasets._files import read_verified
from crystalssl.datasets._registry import RebuiltCopy, load_registry
from crystalssl.exceptions import DatasetError

CONTENT = b"a small file"
REBUILT = b"the same in other bytes"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def entry():
    return dataclasses.replace(
        load_registry()["matbench_jdft2d"],
        sha256=sha256(CONTENT),
        rebuilt=(RebuiltCopy("rebuilt.json.gz", sha256(REBUILT), "for a test"),),
    )


@pytest.fixture(autouse=True)
def no_proxy_nor_pauses(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def server(tmp_path):
    """A web server on the loopback interface: its folder and its address."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def closed_address():
    """An address on the loopback interface where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/file.json.gz"


def test_data_home_comes_from_the_argument_then_the_environment_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("CRYSTALSSL_DATA", str(tmp_path / "from_environment"))
    assert get_data_home(tmp_path / "given") == tmp_path / "given"
    assert get_data_home() == tmp_path / "from_environment"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CRYSTALSSL_DATA", "")
    assert get_data_home() == tmp_path / "crystalssl_data"
    monkeypatch.delenv("CRYSTALSSL_DATA")
    assert get_data_home() == tmp_path / "crystalssl_data"
    assert list(tmp_path.iterdir()) == []


def test_data_home_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert get_data_home("here") == tmp_path / "here"


def test_file_in_place_is_used_without_network(entry, tmp_path, no_network):
    (tmp_path / entry.filename).write_bytes(CONTENT)
    assert read_verified(entry, tmp_path) == (tmp_path / entry.filename, CONTENT)


def test_rebuilt_copy_is_used_without_network(entry, tmp_path, no_network):
    (tmp_path / "rebuilt.json.gz").write_bytes(REBUILT)
    assert read_verified(entry, tmp_path) == (tmp_path / "rebuilt.json.gz", REBUILT)


def test_published_file_is_preferred_over_a_rebuilt_copy(entry, tmp_path, no_network):
    (tmp_path / entry.filename).write_bytes(CONTENT)
    (tmp_path / "rebuilt.json.gz").write_bytes(REBUILT)
    assert read_verified(entry, tmp_path)[0].name == entry.filename


@pytest.mark.parametrize("which", ["published", "rebuilt"])
def test_wrong_hash_is_reported_and_the_file_is_left_alone(entry, tmp_path, no_network, which):
    path = tmp_path / (entry.filename if which == "published" else "rebuilt.json.gz")
    path.write_bytes(b"truncat")
    with pytest.raises(DatasetError) as caught:
        read_verified(entry, tmp_path)
    expected = entry.sha256 if which == "published" else entry.rebuilt[0].sha256
    for part in (str(path), f"expected sha256 {expected}", f"found {sha256(b'truncat')}", entry.url, "delete"):
        assert part in str(caught.value)
    assert path.read_bytes() == b"truncat"


def test_rebuilt_copy_is_not_accepted_under_the_published_name(entry, tmp_path, no_network):
    (tmp_path / entry.filename).write_bytes(REBUILT)
    with pytest.raises(DatasetError, match="expected sha256"):
        read_verified(entry, tmp_path)


def test_a_wrong_published_file_is_not_hidden_by_a_good_rebuilt_copy(entry, tmp_path, no_network):
    (tmp_path / entry.filename).write_bytes(b"wrong")
    (tmp_path / "rebuilt.json.gz").write_bytes(REBUILT)
    with pytest.raises(DatasetError, match="expected sha256"):
        read_verified(entry, tmp_path)


def test_missing_without_download_says_where_to_put_the_file(entry, tmp_path, no_network):
    with pytest.raises(DatasetError, match="download_if_missing is False") as caught:
        read_verified(entry, tmp_path / "absent", download_if_missing=False)
    for part in (entry.url, str(tmp_path / "absent" / entry.filename), entry.sha256):
        assert part in str(caught.value)
    assert not (tmp_path / "absent").exists()


def test_offline_gives_the_address_and_the_place(entry, tmp_path):
    entry = dataclasses.replace(entry, url=closed_address())
    with pytest.raises(DatasetError, match="could not be downloaded") as caught:
        read_verified(entry, tmp_path)
    for part in (entry.url, str(tmp_path / entry.filename), entry.sha256, "CRYSTALSSL_DATA"):
        assert part in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_downloaded_once(entry, tmp_path, server, monkeypatch):
    folder, address = server
    (folder / "file").write_bytes(CONTENT)
    entry = dataclasses.replace(entry, url=f"{address}/file")
    home = tmp_path / "new" / "home"
    assert read_verified(entry, home) == (home / entry.filename, CONTENT)
    (folder / "file").unlink()
    assert read_verified(entry, home)[1] == CONTENT
    assert [path.name for path in home.iterdir()] == [entry.filename]


def test_download_of_something_else_is_refused_and_not_kept(entry, tmp_path, server):
    folder, address = server
    (folder / "file").write_bytes(b"<html>Please log in</html>")
    entry = dataclasses.replace(entry, url=f"{address}/file")
    with pytest.raises(DatasetError, match="does not match the known hash"):
        read_verified(entry, tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("n_retries", [0, 2])
def test_failed_download_is_tried_again(entry, tmp_path, n_retries, monkeypatch):
    import pooch
    import requests

    attempts = []

    def fail(url, output_file, source, **kwargs):
        attempts.append(url)
        raise requests.ConnectionError("unreachable")

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: fail)
    with pytest.raises(DatasetError, match="unreachable"):
        read_verified(entry, tmp_path, n_retries=n_retries)
    assert attempts == [entry.url] * (n_retries + 1)


def test_progress_bar_follows_verbose(entry, tmp_path, monkeypatch):
    import pooch

    shown = []

    def choose(url, progressbar=False):
        shown.append(progressbar)
        return lambda url, output_file, source, **kwargs: Path(output_file).write_bytes(CONTENT)

    monkeypatch.setattr(pooch.core, "choose_downloader", choose)
    read_verified(entry, tmp_path / "quiet")
    read_verified(entry, tmp_path / "loud", verbose=1)
    assert shown == [False, True]


def test_data_home_that_cannot_be_written_is_an_error_of_ours(entry, tmp_path):
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(DatasetError, match="could not be downloaded"):
        read_verified(entry, tmp_path / "occupied" / "home")


def test_folder_in_place_of_the_file_is_an_error_of_ours(entry, tmp_path):
    (tmp_path / entry.filename).mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        read_verified(entry, tmp_path)


@pytest.mark.parametrize("kind", ["sparse file", "FIFO", "folder", "device", "link to a FIFO"])
def test_what_is_no_file_is_refused(entry, tmp_path, hostile, no_network, kind):
    path = tmp_path / entry.filename
    path.touch()
    hostile(path, kind)
    reason = "has 3,221,225,472 bytes, more than" if kind == "sparse file" else "is a (folder|FIFO|device), not a file"
    with pytest.raises(DatasetError, match=f"{path} .* cannot be read: .*{reason}.* Remove it, or let data_home name"):
        read_verified(entry, tmp_path)


def test_forbidden_folder_is_named(entry, tmp_path, forbidden, no_network):
    forbidden(tmp_path)
    with pytest.raises(DatasetError, match=f"{tmp_path}.* cannot be read: .*Permission denied"):
        read_verified(entry, tmp_path)


@pytest.mark.parametrize("place", ["n" * 300, "file/home"])
def test_data_home_that_cannot_be_is_named(entry, tmp_path, place, server):
    (tmp_path / "file").touch()
    (server[0] / "file").write_bytes(CONTENT)
    entry = dataclasses.replace(entry, url=f"{server[1]}/file")
    with pytest.raises(DatasetError, match=r"cannot be read|could not be downloaded") as caught:
        read_verified(entry, tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


def test_home_of_no_user_is_named():
    with pytest.raises(DatasetError, match="data home '~nobody-of-that-name/data' cannot be found"):
        get_data_home("~nobody-of-that-name/data")


def test_downloaded_file_has_the_permissions_that_the_umask_leaves(entry, tmp_path, server, umask):
    folder, address = server
    (folder / "file").write_bytes(CONTENT)
    umask(0o027)
    path, _ = read_verified(dataclasses.replace(entry, url=f"{address}/file"), tmp_path / "home")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
