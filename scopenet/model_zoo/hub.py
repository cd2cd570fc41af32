"""Models in the Hugging Face Hub: a repository is a zoo of one model, with its files at the top."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, import_extra, refused
from .card import write_card
from .index import CLASS_NAMES, Entry, File, dump_index
from .zoo import INDEX

PREFIX = "hf://"  # of the addresses "hf://owner/name" and "hf://owner/name@revision"
WEIGHTS = "model"  # .safetensors, as the Hub knows them


def download(address: str) -> str:
    """Return the folder, in the Hub's cache on this machine, of the files at an address that
    loading reads; a ConfigError says why there is none."""
    library = import_extra("huggingface_hub", "hub")
    name, _, revision = address.removeprefix(PREFIX).partition("@")
    files = [INDEX, "config.yaml", CLASS_NAMES, f"{WEIGHTS}.safetensors"]
    with refused(f"{address} cannot be read"):
        folder = library.snapshot_download(name, revision=revision or None, allow_patterns=files)
    if not revision:
        logging.getLogger(__name__).warning(
            f"{address} may become another model; this one is {address}@{Path(folder).name}."
        )
    return folder


def add(
    address: str, name: str, entry: Entry, files: dict[str, bytes], changes: dict[str, Any]
) -> Entry:
    """Put what loading reads of a config's entry, and its card, into a repository, made if need be,
    in one commit, whose address is printed; return the entry as it is there, or raise a ConfigError
    that says why it cannot be."""
    library = import_extra("huggingface_hub", "hub")
    kept = {x: files[x] for x in ("config.yaml", CLASS_NAMES)}
    kept[f"{WEIGHTS}.safetensors"] = files[f"{entry.weights}.safetensors"]
    digests = {k: File.of(x) for k, x in kept.items()}
    entry = replace(entry, folder=".", weights=WEIGHTS, files=digests)
    kept[INDEX] = dump_index({name: entry})
    kept["README.md"] = write_card(name, entry, changes, address).encode()
    with refused(f"{address} cannot be written"):
        repository = address.removeprefix(PREFIX)
        if "/" not in repository:
            raise ConfigError("a repository is OWNER/NAME")
        api = library.HfApi(library_name="scopenet")
        api.create_repo(repository, exist_ok=True)
        added = [library.CommitOperationAdd(path, content) for path, content in kept.items()]
        commit = api.create_commit(repository, added, commit_message="scopenet publish")
    print(f"{address}@{commit.oid}")
    return entry
