"""Models in the Hugging Face Hub: a repository is a zoo of one model, with its files at the top."""

import logging
from pathlib import Path

from ..errors import import_extra, refused
from .index import CLASS_NAMES
from .zoo import INDEX

PREFIX = "hf://"  # of "hf://owner/name", or "hf://owner/name@revision"
WEIGHTS = "model"  # .safetensors, as the Hub expects them
EXTRA = "hub"  # of setup.py


def download(address: str) -> str:
    """Return the folder, in the Hub's cache on this machine, of the files at an address that
    loading reads; a ConfigError says why there is none."""
    library = import_extra("huggingface_hub", EXTRA)
    name, _, revision = address.removeprefix(PREFIX).partition("@")
    files = [INDEX, "config.yaml", CLASS_NAMES, f"{WEIGHTS}.safetensors"]
    with refused(f"{address} cannot be read"):
        folder = library.snapshot_download(name, revision=revision or None, allow_patterns=files)
    if not revision:
        logging.getLogger(__name__).warning(
            f"{address} may become another model; this one is {address}@{Path(folder).name}."
        )
    return folder


def upload(name: str, files: dict[str, bytes]) -> str:
    """Put files into the repository "owner/name", which is made if there is none, in one commit;
    return the address of that. A ConfigError says why that is impossible."""
    library = import_extra("huggingface_hub", EXTRA)
    with refused(f"{name} cannot be written in the Hub"):
        api = library.HfApi(library_name="scopenet")
        api.create_repo(name, exist_ok=True)
        added = [library.CommitOperationAdd(path, content) for path, content in files.items()]
        commit = api.create_commit(name, added, commit_message="scopenet publish")
    return f"{PREFIX}{name}@{commit.oid}"
