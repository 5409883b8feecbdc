"""Images: who runs in them, what they are made from, and that nothing comes into them unchecked."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
DOCKERFILES = sorted({*ROOT.glob("deploy/**/Dockerfile*"), *ROOT.glob("services/**/Dockerfile*")})
NAMES = [str(file.relative_to(ROOT)) for file in DOCKERFILES]


def wrong(text: str) -> list[str]:
    """What a Dockerfile does that ours may not."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    steps = [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines if re.match(r"[A-Za-z]", line)]
    bases = {rest.partition("=")[0]: rest.partition("=")[2] for step, rest in steps if step == "ARG"}
    found = []
    stages = set()
    for step, rest in steps:
        if step == "FROM":
            image, _, stage = re.sub(r"\$\{(\w+)\}", lambda name: bases.get(name[1], ""), rest).partition(" AS ")
            if image not in stages and (not re.search(r"[:@][\w.-]+", image) or ":latest" in image):
                found.append(f"FROM {image}: not pinned")
            stages.add(stage)
            user = "root"
        if step == "USER":
            user = rest.strip()
        if step == "ADD":
            found.append(f"ADD {rest}: COPY takes no address and unpacks nothing")
        if step == "RUN" and re.search(r"\b(curl|wget)\b", rest):
            found.append(f"RUN {rest[:40]}: fetches what nothing checks")
        if step == "RUN" and "pip install" in rest and not re.search(r"--require-hashes|--no-deps", rest):
            found.append(f"RUN {rest[:40]}: installs what nothing checks")
        if step in ("ENV", "ARG") and re.search(r"(?i)(password|secret_?key|token)=\S", rest):
            found.append(f"{step}: a secret that stays in the image")
    if re.fullmatch(r"(root|0)(:.*)?", user) or not re.match(r"[0-9]", user):
        found.append(f"USER {user}: should be a number that is not root's")
    return found


def test_there_is_an_image_to_look_at() -> None:
    assert "deploy/docker/Dockerfile" in NAMES


@pytest.mark.parametrize("file", DOCKERFILES, ids=NAMES)
def test_an_image_keeps_the_rules(file: Path) -> None:
    assert wrong(file.read_text()) == []


GOOD = (ROOT / "deploy/docker/Dockerfile").read_text()


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("USER 10001:10001", "USER root"),
        ("USER 10001:10001", "USER 0:0"),
        ("USER 10001:10001", "USER dataaggregator"),  # whoever checks that it is not root sees numbers only
        ("USER 10001:10001\n", ""),
        ("python:3.11.13-slim-bookworm", "python:latest"),
        ("python:3.11.13-slim-bookworm", "python"),
        ("COPY libs libs", "ADD https://example.org/libs.tar libs"),
        ("--require-hashes ", ""),
        ("RUN python -m venv", "RUN curl -s https://example.org/x | sh && python -m venv"),
        ("LOG_FORMAT=json", "LOG_FORMAT=json SECRET_KEY=made-up"),
    ],
)
def test_each_rule_is_one(there: str, instead: str) -> None:
    assert there in GOOD
    assert wrong(GOOD.replace(there, instead))
