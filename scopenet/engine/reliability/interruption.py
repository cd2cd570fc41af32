"""SIGTERM and SIGINT end a training after the iteration, with a checkpoint."""

import logging
import os
import signal
from types import FrameType

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...processes import SIGNALS, handled
from .workers import any_worker

TRY_AGAIN = os.EX_TEMPFAIL  # 75, the exit code of an interrupted training


class Interrupted(SystemExit):
    """Ends the program with the exit code ``TRY_AGAIN``; no ``Exception``, as nothing failed."""

    def __init__(self):
        super().__init__(TRY_AGAIN)


class StopOnSignal(HookBase):
    """Saves and raises :class:`Interrupted` after the iteration in which a worker got a signal; to
    be the last hook. A second SIGINT stops at once, and so does any signal after the last
    iteration, when all is saved."""

    def __init__(self, checkpointer):
        self.checkpointer = checkpointer
        self.requested = False
        self.all_saved = False
        self.stopping = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.all_saved:
            raise Interrupted
        if self.requested and number == signal.SIGINT:
            raise SystemExit(128 + number)  # as a shell reports it
        self.requested = True

    def before_train(self) -> None:
        self._handled = handled(self.handle)
        self._handled.__enter__()

    def after_step(self) -> None:
        stop = any_worker(self.requested)
        last = self.trainer.iter + 1 >= self.trainer.max_iter  # saved by PeriodicCheckpointer
        if stop and not last:
            iteration = self.trainer.iter
            self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        if stop:
            comm.synchronize()  # whoever ends first makes the launcher end the others
            logging.getLogger(__name__).warning(
                f"Interrupted and saved after iteration {self.trainer.iter}; --resume goes on."
            )
            self.stopping = True
            raise Interrupted
        self.all_saved = last

    def after_train(self) -> None:
        self._handled.__exit__(None, None, None)
        if self.stopping:  # more signals must not change the exit code of a process that ends
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
