import pytest


@pytest.fixture
def no_network(monkeypatch):
    """Make every attempt to open a connection fail the test."""
    import socket

    def refuse(self, address):
        pytest.fail(f"tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
