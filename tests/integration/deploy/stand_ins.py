"""Small services in place of the real ones, and `colloquy up` with them: what is tested is who starts and stops them.

python stand_ins.py up             like `colloquy up`
python stand_ins.py serve PORT     answers 200 to everything
python stand_ins.py wait           does nothing until SIGTERM
python stand_ins.py stubborn       does nothing, SIGTERM or not
python stand_ins.py crash          ends with 3 at once
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time


def _serve(port: int) -> None:
    # By hand, because `http.server` takes longer to load than everything else that these processes do.
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(4096):
                    _write("request")
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _up() -> int:
    from deploy.local.errors import CannotStart
    from deploy.local.up import Commands, up

    def stand_in(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, __file__, *arguments)

    commands = Commands(
        agent=stand_in("serve", os.environ["COLLOQUY_AGENT_PORT"]),
        api=stand_in("serve", os.environ["COLLOQUY_API_PORT"]),
        worker=stand_in(os.environ.get("STAND_IN_WORKER", "wait")),
        migrate=(sys.executable, "-c", os.environ.get("STAND_IN_MIGRATION", "")),
    )
    try:
        up(verbose="STAND_IN_VERBOSE" in os.environ, commands=commands)
    except CannotStart as error:
        _write(f"Error: {error}")
        return 1
    return 0


def main() -> int:
    match sys.argv[1:]:
        case ["up"]:
            return _up()
        case ["serve", port]:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            _serve(int(port))
        case ["wait"]:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            time.sleep(600)
        case ["stubborn"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        case ["crash"]:
            _write("no luck")
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
