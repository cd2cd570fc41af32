"""What one worker process has read of a COCO json, for the others of its machine."""

import tempfile
from pathlib import Path

from detectron2.utils import comm

from ..errors import ConfigError
from .labels import KEPT, Kept, is_kept, keep_labels


def share_labels(path: str) -> Kept:
    """Do what :func:`~.labels.keep_labels` does in all worker processes, of which the first one of
    each machine reads the json; all of them have to call it, and all raise what that one does."""
    if comm.get_local_size() == 1 or all(comm.all_gather(is_kept(path))):
        return keep_labels(path)
    if comm.get_local_rank() == 0:
        _offer(path)
    else:
        _take(path)
    return KEPT[path]


def _offer(path: str) -> None:
    with tempfile.NamedTemporaryFile(prefix="scopenet_") as file:
        try:
            kept = keep_labels(path)
        except ConfigError as error:
            comm.all_gather(error)
            raise
        file.write(kept.packed)
        file.flush()
        comm.all_gather((kept._replace(packed=b""), file.name))
        comm.synchronize()  # until all have read it


def _take(path: str) -> None:
    offer = comm.all_gather(None)[comm.get_rank() - comm.get_local_rank()]
    if isinstance(offer, ConfigError):
        raise offer
    kept, file_name = offer
    KEPT[path] = kept._replace(packed=Path(file_name).read_bytes())
    comm.synchronize()
