"""A worker process of `processes.py`: it runs the trials that come down a pipe, until the pipe is closed.

Whatever ends the driver closes the pipe too, `kill -9` included, so no worker is ever left behind.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue

GRACE = 2.0
"""Seconds that a worker has to stop, which removes the temporary files of its trial, before it is killed."""


def serve(pipe: Connection) -> None:
    """Make a worker from the first message, then answer every (trial, inputs) with what the trial made."""
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, messages), daemon=True).start()
    make_worker, threads, device = ForkingPickler.loads(messages.get())  # which imports PyTorch
    worker = make_worker(threads=threads, device=device)
    while True:
        pipe.send(worker.run(*ForkingPickler.loads(messages.get())))


def _receive(pipe: Connection, messages: SimpleQueue[bytes]) -> None:
    """Queue what comes down the pipe; end this process when the other end is closed, busy or not."""
    try:
        while True:
            messages.put(pipe.recv_bytes())
    finally:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)


def _stop(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    os.dup2(2, 1)  # what a trial prints must not mix with what the driver prints
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(OSError):  # nobody at the other end any more
        serve(Connection(int(sys.argv[1])))
