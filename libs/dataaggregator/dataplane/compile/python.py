"""What can be said of a python step's source without running it: that it is Python, and defines transform(rows)."""

import ast
import warnings
from collections.abc import Iterator, Mapping

from dataaggregator.contracts.parameters import USE

PARAMETERS = "parameters"
"""What the second argument is called where the function takes the run's parameters."""
_WANTED = "write one function: def transform(rows)"
_TAKEN = (
    "transform is called with the rows, def transform(rows), "
    "or with the parameters too where they are named so, def transform(rows, parameters)"
)


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
        yield from _pasted(source)


def takes_parameters(source: str) -> bool:
    """Whether transform is to be called with the run's parameters as well, of a source without faults."""
    return _names_parameters(_functions(ast.parse(source))[-1])


def parameters_used(source: str) -> Mapping[str, str]:
    """The parameters a source without faults takes by their names as written, each with where it does so first."""
    function = _functions(ast.parse(source))[-1]
    found: dict[str, str] = {}
    for node in ast.walk(function) if _names_parameters(function) else ():
        match node:
            case ast.Subscript(value=ast.Name(id="parameters"), slice=ast.Constant(value=str(name))):
                found.setdefault(name, f"line {node.lineno}, column {node.col_offset + 1}")
    return found


def _functions(tree: ast.Module) -> list[ast.stmt]:
    return [node for node in tree.body if getattr(node, "name", None) == "transform"]


def _of_function(tree: ast.Module) -> Iterator[str]:
    found = _functions(tree)
    if not found:
        yield f"there is no transform here; {_WANTED}"
        return
    function = found[-1]
    place = function.lineno, function.col_offset + 1
    if not isinstance(function, ast.FunctionDef):
        yield _at(*place, f"transform is no plain function; {_WANTED}")
    elif not _can_be_called(function):
        yield _at(*place, _TAKEN)
    elif _yields(function):
        yield _at(*place, "transform gives its rows piece by piece (yield); return one table")


def _pasted(source: str) -> Iterator[str]:
    for use in USE.finditer(source):
        read = source[: use.start()]
        line, column = read.count("\n") + 1, len(read) - (read.rfind("\n") + 1) + 1
        cure = f'take it as parameters["{use.group(1)}"] in def transform(rows, parameters)'
        yield _at(line, column, f"a parameter is never pasted into Python; {cure}")


def _places(function: ast.FunctionDef) -> list[str]:
    return [each.arg for each in (*function.args.posonlyargs, *function.args.args)]


def _names_parameters(function: ast.stmt) -> bool:
    return isinstance(function, ast.FunctionDef) and _places(function)[1:2] == [PARAMETERS]


def _can_be_called(function: ast.FunctionDef) -> bool:
    """With as many values as there will be, and no name."""
    arguments, places = function.args, _places(function)
    needed = len(places) - len(arguments.defaults)
    named = any(default is None for default in arguments.kw_defaults)
    given = 2 if _names_parameters(function) else 1
    return needed <= given and bool(places or arguments.vararg) and not named


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
