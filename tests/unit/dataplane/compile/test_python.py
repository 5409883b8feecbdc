"""The source of a python step, judged when it is saved and never run."""

import subprocess
import sys

import pytest

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.compile.graph import compile_pipeline, compile_transformation
from dataaggregator.dataplane.compile.python import faults, takes_parameters
from dataaggregator.errors import FieldError, Invalid

GOOD = (
    "def transform(rows):\n    return rows",
    "import json\n\ndef helper(x):\n    yield x\n\ndef transform(rows, /, depth=1, *, wide=0): return rows",
    "def transform(rows):\n    def pieces():\n        yield rows\n    return next(pieces())",
    "def transform(*tables): return tables[0]",
    "def transform(rows, parameters): return rows",
    "def transform(rows, parameters=None, more=1): return rows",
    "def transform(rows, /, parameters, *, wide=0): return rows",
    "import re\nPATTERN = '\\d'\ndef transform(rows): return rows",
)
BAD = {
    "def transform(rows)\n    return rows": "line 1, column 20: this is not Python",
    "def transform(rows):\nreturn rows": "line 2, column 1: this is not Python",
    "x = 1\n": "there is no transform here",
    "def transfrom(rows): return rows": "there is no transform here",
    "class transform: pass": "line 1, column 1: transform is no plain function",
    "async def transform(rows): return rows": "line 1, column 1: transform is no plain function",
    "\n\ndef transform(): pass": "line 3, column 1: transform is called with the rows",
    "def transform(a, b): pass": "transform is called with the rows",
    "def transform(rows, *, more): pass": "transform is called with the rows",
    "def transform(rows, *, parameters): pass": "transform is called with the rows",
    "def transform(rows, parameters, more): pass": "transform is called with the rows",
    "def transform(*, rows): pass": "transform is called with the rows",
    "def transform(rows):\n    return rows[{{ parameters.most }}]": (
        'line 2, column 17: a parameter is never pasted into Python; take it as parameters["most"]'
    ),
    "def transform(rows):\n    for row in rows: yield row": "transform gives its rows piece by piece",
    "return 1\ndef transform(rows): pass": "line 1, column 1: this is not Python: 'return' outside function",
    "def transform(rows): pass\n\0": "this is not Python",
    "def transform(rows): return '\ud800'": "this is not Python",
    "x = " + "9" * 5000: "this is not Python",
    "x = " + "(" * 300 + ")" * 300: "this is not Python: too many nested parentheses",
    "-" * 90_000 + "1": "too deeply nested",
    "x" + ".a" * 40_000: "too deeply nested",
    "+".join(["1"] * 30_000): "too deeply nested",
}


@pytest.mark.parametrize("source", GOOD)
def test_a_function_of_one_argument_is_taken(source: str) -> None:
    assert list(faults(source)) == []


@pytest.mark.parametrize("source", BAD, ids=lambda source: source[:30])
def test_what_cannot_be_called_is_refused_with_its_place(source: str) -> None:
    (message,) = faults(source)
    assert BAD[source] in message


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("def transform(rows): pass", False),
        ("def transform(rows, depth=1): pass", False),
        ("def transform(rows, parameters): pass", True),
        ("def transform(rows): pass\ndef transform(rows, parameters=None): pass", True),
    ],
)
def test_parameters_go_to_who_names_them(source: str, takes: bool) -> None:
    assert takes_parameters(source) is takes


def test_a_parameter_that_the_pipeline_lacks_is_named_when_it_is_saved() -> None:
    body = 'def transform(rows, parameters):\n    return rows[parameters["least"]:parameters["most"]]'
    definition = PipelineDefinition.model_validate(
        {
            "name": "p",
            "sources": {"a": {"connector": "c", "stream": "s"}},
            "transformations": [{"name": "t", "steps": [{"python": body}]}],
            "destinations": [{"connector": "w", "stream": "out"}],
            "parameters": {"most": {"type": "integer"}},
        }
    )
    with pytest.raises(Invalid) as caught:
        compile_pipeline(definition)
    (error,) = caught.value.errors
    assert (error.field, error.code) == ("transformations[0].steps[0].python", "unknown-name")
    assert error.message == "line 2, column 17: the pipeline has no parameter least; it has: most"


def test_it_is_read_and_not_run() -> None:
    assert list(faults("raise SystemExit(1)\nprint(1)\ndef transform(rows): return 1 / 0")) == []


def test_no_source_ends_the_process_that_reads_it() -> None:
    """Each in a process of its own: what breaks the parser breaks no other test."""
    reads = "from dataaggregator.dataplane.compile.python import faults"
    code = f"import sys; {reads}; print(len([*faults(sys.stdin.read())]))"
    deep = ("not " * 24_000 + "1", "lambda:" * 14_000 + "1", "1 if x else " * 8_000)
    shapes = (*deep, "a<" * 45_000 + "b", "[" * 95 + "]" * 95)
    for source in shapes:
        ended = subprocess.run([sys.executable, "-c", code], input=source.encode(), capture_output=True, check=False)
        assert (ended.returncode, ended.stdout) == (0, b"1\n"), source[:20]


def test_a_wrong_source_and_a_wrong_type_are_told_together_at_their_places() -> None:
    steps = [{"filter": "a > 0"}, {"python": "def transform():\n    pass", "schema": {"x": "nothing"}}]
    with pytest.raises(Invalid) as caught:
        compile_transformation(TransformationDefinition.model_validate({"name": "t", "steps": steps}))
    assert caught.value.code == "definition-invalid"
    told: list[FieldError] = list(caught.value.errors)
    assert [(one.field, one.code) for one in told] == [("steps[1].python", "python"), ("steps[1].schema.x", "type")]


@pytest.mark.parametrize("more", [{"expect": "some"}, {"schema": {}}, {"row_ids": "maybe"}, {"shema": {"x": "text"}}])
def test_what_stands_beside_the_source_is_checked(more: dict[str, object]) -> None:
    step = {"python": GOOD[0], **more}
    with pytest.raises(ValueError, match=next(iter(more))):
        TransformationDefinition.model_validate({"name": "t", "steps": [step]})
