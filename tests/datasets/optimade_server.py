"""A real OPTIMADE database on this machine: ``python optimade_server.py RECORDS.jsonl`` prints its address, and serves.

It is the reference implementation of optimade-python-tools with its back end in memory. It ends with the process that
started it, whose end of standard input it waits for.
"""

import os
import socket
import sys
import threading

import uvicorn
from optimade.server.config import ServerConfig
from optimade.server.create_app import create_app

BAND_GAP = {"name": "band_gap", "type": "float", "unit": "eV", "description": "Made up."}
STABLE = {"name": "stable", "type": "boolean", "unit": None, "description": "Made up."}


def main(records):
    config = ServerConfig(
        insert_from_jsonl=records,
        insert_test_data=False,
        validate_api_response=False,  # databases on the web send all kinds of records
        page_limit=10,
        page_limit_max=20,
        provider_fields={"structures": [BAND_GAP, STABLE]},
    )
    app = create_app(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who connects from now on waits until the server is up
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
