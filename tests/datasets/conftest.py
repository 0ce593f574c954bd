import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data_home():
    """Folder with the real files (not part of the repository); tests that need it are skipped without it."""
    home = Path(os.environ.get("CRYSTALSSL_DATA") or _ROOT / ".." / "shared" / "data").resolve()
    if not home.is_dir():
        pytest.skip(f"no data in {home}; set CRYSTALSSL_DATA")
    return home


@pytest.fixture
def no_network(monkeypatch):
    """Make every attempt to open a connection fail the test."""
    import socket

    def refuse(self, address):
        pytest.fail(f"tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
