"""Every command and every example that the pages show is run here, as it stands there."""

import ast
import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path

import aiohttp
import pytest

from dataaggregator.cli.files import read_yaml
from dataaggregator.contracts.apply import kind_of
from dataaggregator.contracts.pipeline import PipelineDefinition
from tests.e2e.platform import Platform

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("docker", "python", "node")
"""Run by tests/compose, and those of docs/examples/ by tests/contract/test_examples.py."""
MOVING = ("export --installation", "db upgrade", "import ")
"""Need an installation of their own: run by test_moving.py, as the page has them."""
NEEDS_NOTHING = (".", "cd", "export")


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), text)
        for page in PAGES
        for found, text in FENCE.findall(page.read_text())
        if found == language
    ]


def commands(program: str) -> list[str]:
    lines = [line.partition("  #")[0].strip() for _, text in blocks("sh") for line in text.splitlines()]
    return sorted({line for line in lines if line.split(" ")[0] == program and not any(one in line for one in MOVING)})


def test_nothing_is_shown_that_is_not_tried_here() -> None:
    lines = [line.partition("  #")[0].strip() for _, text in blocks("sh") for line in text.splitlines()]
    programs = {line.split(" ")[0] for line in lines if line and not line.startswith("#")}
    assert programs <= {"make", "dataaggregator", "curl", *ELSEWHERE, *NEEDS_NOTHING}


@pytest.mark.parametrize("line", commands("dataaggregator"))
def test_a_command_of_the_pages_works(demo: Platform, line: str) -> None:
    done = demo.command(*shlex.split(line)[1:])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("line", commands("make"))
def test_a_make_target_of_the_pages_exists(line: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "text"), blocks("python"))
async def test_a_python_example_works(demo: Platform, page: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = demo.home.credentials()
    assert credentials is not None
    monkeypatch.setenv("DATAAGGREGATOR_URL", demo.url)
    names = {"email": credentials[0], "password": credentials[1]}
    code = compile(text, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)  # noqa: S307 - our own pages
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_a_definition_of_the_pages_is_one(page: str, text: str) -> None:
    for document in read_yaml(text):
        alone = [document] if kind_of(document) == "pipeline" else []
        for pipeline in [*document.get("pipelines", []), *alone]:
            PipelineDefinition.model_validate({name: part for name, part in pipeline.items() if name != "kind"})


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
async def test_a_written_document_is_what_is_served(demo: Platform, http: aiohttp.ClientSession, name: str) -> None:
    written = json.loads((ROOT / "docs/reference" / name).read_text())
    async with http.get(f"{demo.url}/api/{name}") as answer:
        assert await answer.json() == written


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r'\]\(([^)#\s]+)(?:#[^)\s]*)?(?:\s"[^"]*")?\)', page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []
