"""Puts a kustomization together as `kubectl kustomize` does, as far as ours need it; more is refused.

A machine without kubectl can check the manifests with it; where kubectl is, a test holds it against that.
"""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches", "configMapGenerator", "generatorOptions"}
# The lists that a strategic merge joins, by what their members are told apart by; all others are replaced.
JOINED = {"containers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}
CLUSTER_WIDE = {"Namespace"}


def render(folder: Path) -> list[Json]:
    """All objects of the kustomization in ``folder``."""
    wanted: Json = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(wanted) <= KNOWN, f"{folder}: {set(wanted) - KNOWN} is not known to this test"
    objects = [found for name in wanted.get("resources", []) for found in _resource(folder / name)]
    objects += [_config_map(folder, made) for made in wanted.get("configMapGenerator", [])]
    assert not wanted.get("configMapGenerator") or wanted["generatorOptions"] == {"disableNameSuffixHash": True}
    for patch in wanted.get("patches", []):
        for change in load(folder / patch["path"]):
            objects = _patched(objects, change, patch.get("target"))
    for found in objects:
        if "namespace" in wanted and found["kind"] not in CLUSTER_WIDE:
            found["metadata"]["namespace"] = wanted["namespace"]
    return objects


def load(path: Path) -> list[Json]:
    """The objects of a file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def _resource(path: Path) -> list[Json]:
    return render(path.resolve()) if path.is_dir() else load(path)


def _config_map(folder: Path, made: Json) -> Json:
    data = {Path(name).name: (folder / name).read_text() for name in made["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data}


def _patched(objects: list[Json], change: Json, target: Json | None) -> list[Json]:
    hit = [_is_meant(found, change, target) for found in objects]
    assert any(hit), f"a patch hits nothing: {target or change['metadata']['name']}"
    if target is not None:  # then names and kinds in the patch only say what it is about
        change = {key: value for key, value in change.items() if key not in ("apiVersion", "kind", "metadata")}
    return [merged(found, change) if meant else found for found, meant in zip(objects, hit, strict=True)]


def _is_meant(found: Json, change: Json, target: Json | None) -> bool:
    if target is None:
        return (found["kind"], found["metadata"]["name"]) == (change["kind"], change["metadata"]["name"])
    return all(
        re.fullmatch(pattern, found["kind"] if key == "kind" else found["metadata"]["name"])
        for key, pattern in target.items()
    )


def merged(old: Json, change: Json) -> Json:
    """A strategic merge."""
    new = copy.deepcopy(old)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(new.get(key), dict):
            new[key] = merged(new[key], value)
        elif key in JOINED and key in new:
            new[key] = _joined(new[key], value, JOINED[key])
        else:
            new[key] = copy.deepcopy(value)
    return new


def _joined(old: list[Json], change: list[Json], key: str) -> list[Json]:
    there = {member[key]: member for member in old}
    for member in change:
        there[member[key]] = merged(there.get(member[key], {}), member)
    return list(there.values())
