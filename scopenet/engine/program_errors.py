"""Errors that users can do something about end a program with one sentence."""

import errno
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
        if error.errno not in _DISK_FULL:
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
