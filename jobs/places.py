"""Addresses as people can tell them apart, and as every process of a cluster understands them."""

from __future__ import annotations

import os
from collections.abc import Iterable


def below_root(uris: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the folder that all addresses share, and each address from there on.

    The folder is empty where they share none, or no more than a disk or a bucket.
    """
    listed = list(dict.fromkeys(uris))
    folders = [uri.rstrip("/").split("/")[:-1] for uri in listed]
    shared = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    root = "/".join(folders[0][:shared]) if folders else ""
    if root.count("/") < 2:
        return "", {uri: uri for uri in listed}
    return root, {uri: uri[len(root) + 1 :] for uri in listed}


def absolute(path: str) -> str:
    """Return a path from the root; a bucket's address, and an empty one, as they are."""
    return os.path.abspath(path) if path and "://" not in path else path
