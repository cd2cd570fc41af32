"""Processes of this machine: who gets SIGTERM and SIGINT, namely those that train and no others,
and how many cores there are."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Send ``SIGNALS`` to ``handler`` for a while; in threads other than the main one, which get no
    signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def forward_to_workers(number: int, frame: FrameType | None) -> None:
    """Pass a signal on, in a process that only waits for its workers. They get a SIGTERM, because a
    Ctrl-C of the terminal reaches them, too, and a second SIGINT would stop them at once."""
    if number == signal.SIGINT:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for worker in multiprocessing.active_children():
        worker.terminate()


def leave_signals_to_trainer(worker_id: int) -> None:
    """Ignore signals in a process of a loader: one to all processes of a job must not take the
    batches away from the iteration that is to be finished. A SIGTERM of the trainer itself ends
    them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where every SIGTERM ends them
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(trainer: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != trainer:
        pass
    os._exit(0)


def available_cores() -> int:
    """Count the cores that this process may use; the machine may have more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
