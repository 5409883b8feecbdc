"""What can be said of a python step's source without running it: that it is Python, and defines transform(rows)."""

import ast
import warnings
from collections.abc import Iterator

_WANTED = "write one function: def transform(rows)"


def faults(source: str) -> Iterator[str]:
    """What is wrong, each with its line and column."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
            compile(tree, "<transform>", "exec", dont_inherit=True)  # a return outside a function is found only here
    except SyntaxError as error:
        yield _at(error.lineno, error.offset, f"this is not Python: {error.msg}")
    except (RecursionError, MemoryError):
        yield "this is too deeply nested to be read as Python"
    except ValueError as error:  # a NUL in older versions, half of a surrogate pair
        yield f"this is not Python: {error}"
    else:
        yield from _of_function(tree)


def _of_function(tree: ast.Module) -> Iterator[str]:
    found = [node for node in tree.body if getattr(node, "name", None) == "transform"]
    if not found:
        yield f"there is no transform here; {_WANTED}"
        return
    function = found[-1]
    place = function.lineno, function.col_offset + 1
    if not isinstance(function, ast.FunctionDef):
        yield _at(*place, f"transform is no plain function; {_WANTED}")
    elif not _takes_one(function.args):
        yield _at(*place, "transform is called with one argument, the rows: def transform(rows)")
    elif _yields(function):
        yield _at(*place, "transform gives its rows piece by piece (yield); return one table")


def _takes_one(arguments: ast.arguments) -> bool:
    """Whether it can be called with one value and no name."""
    places = [*arguments.posonlyargs, *arguments.args]
    needed = len(places) - len(arguments.defaults)
    named = any(default is None for default in arguments.kw_defaults)
    return needed <= 1 and bool(places or arguments.vararg) and not named


def _yields(function: ast.FunctionDef) -> bool:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(node)
    return False


def _at(line: int | None, column: int | None, message: str) -> str:
    return f"line {line}, column {column or 1}: {message}" if line else message
