"""Errors that users can do something about end a program with one sentence."""

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from torch.multiprocessing.spawn import ProcessExitedException

from ..config_file import ConfigError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Exits with "error: <sentence>" on bad configs, failed downloads and full disks, and with the
    exit code of a worker process that has said why itself."""
    training = logging.getLogger("detectron2.engine.train_loop")
    training.addFilter(_without_traceback)
    try:
        yield
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except URLError as error:
        sys.exit(
            f"error: The weights could not be downloaded ({error.reason}); fetch them otherwise, "
            "then set MODEL.WEIGHTS (LazyConfig: train.init_checkpoint) to the file."
        )
    except OSError as error:
        if not _is_disk_full(error):
            raise
        place = f" writing {error.filename}" if error.filename else ""
        sys.exit(
            f"error: No space left on the disk or in the quota{place}; the last checkpoint is as "
            "it was: make room, then go on with --resume."
        )
    except ProcessExitedException as error:
        if error.signal_name:
            sys.exit(f"error: A worker process was killed ({error}); go on with --resume.")
        sys.exit(error.exit_code)
    finally:
        training.removeFilter(_without_traceback)


def _is_disk_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def _without_traceback(record: logging.LogRecord) -> bool:
    """Of what is logged when a training fails, that which a sentence says."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ConfigError) and not _is_disk_full(error)
