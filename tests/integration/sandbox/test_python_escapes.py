"""A hundred and more ways out by Python, each run for real behind the lock."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox.answers import PYTHON_LOST
from dataaggregator.dataplane.sandbox.python import PRINTED_CHARACTERS
from dataaggregator.errors import Permanent, PlatformError
from tests.integration.sandbox import python_attempts as attempts
from tests.integration.sandbox.pythons import PythonSteps, python
from tests.security import tried

FLOW = pa.table({"id": [1, 2, 3]})
TRIED = """\
def attempt():
{body}
try:
    got = attempt()
except BaseException as error:
    return pa.table({{"got": [""], "refused": [type(error).__name__]}})
return pa.table({{"got": [str(got)[:200] if got else ""], "refused": ["nothing came of it"]}})"""
ENDS_THE_PROCESS = {"network: a call of the old kind", "network: a call of the third kind"}
pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="raw calls have this machine's numbers"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    for name in ("secret", "secret.csv", "escaped.py"):
        (folder / name).write_text("canary = 1\n")
    return folder


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user, which others could harm."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"CANARY": "x"}) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture(scope="module")
def got(
    python_steps: PythonSteps, folder: Path, victim: subprocess.Popen[bytes], listener: socket.socket
) -> Callable[[str], str]:
    """What an attempt brings; "" for nothing."""
    places = {"secret": folder / "secret", "written": folder / "written", "folder": folder, "victim": victim.pid}
    places["port"] = listener.getsockname()[1]

    def brought(body: str) -> str:
        lines = body.format(**places).splitlines()
        tried = TRIED.format(body="\n".join(f"    {line}" for line in lines))
        step = python(tried, schema={"got": "text", "refused": "text"})
        return str(python_steps([step], FLOW).values[0]["got"])

    return brought


@pytest.mark.parametrize("name", tried(attempts.EVERY, lambda name: name.partition(":")[0]))
def test_no_python_leads_out(
    name: str,
    got: Callable[[str], str],
    folder: Path,
    victim: subprocess.Popen[bytes],
    listener: socket.socket,
) -> None:
    if name in ENDS_THE_PROCESS:
        with pytest.raises(Permanent) as caught:
            got(attempts.EVERY[name])
        assert caught.value.code == PYTHON_LOST
    else:
        assert got(attempts.EVERY[name]) == ""
    assert sorted(one.name for one in folder.iterdir()) == ["escaped.py", "secret", "secret.csv"]
    assert (folder / "secret").read_text() == "canary = 1\n"
    assert victim.poll() is None
    with pytest.raises(BlockingIOError):
        listener.accept()


WAYS = ("read: pathlib", "read: Arrow's CSV", "read: who else runs", "processes: kill another", "processes: a thread")


def test_the_attempts_would_get_out_without_the_lock(folder: Path, victim: subprocess.Popen[bytes]) -> None:
    """What is tried is something: where nothing is locked, these lead out."""
    for name in WAYS:
        body = attempts.EVERY[name].format(secret=folder / "secret", victim=victim.pid)
        code = python(body)["python"] + "print(bool(transform(None)))"
        tried = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert tried.stdout.split() == [b"True"], name


# Frames of one's own on the wire, put there before the honest answer.
_HONEST = "send({'kind': 'transformed', 'schema': schema}); "
FORGED = {
    "an answer no one gives": "send({'kind': 'granted'})",
    "an end before the rows": "send({'kind': 'end'})",
    "an answer twice": f"{_HONEST}{_HONEST}",
    "no JSON": "raw(b'\\0\\0\\0\\5' + b'\\0' * 8 + b'hello')",
    "JSON without a bottom": "raw((10**6).to_bytes(4, 'big') + b'\\0' * 8 + b'[' * 10**6)",
    "a header without an end": "raw(b'\\xff' * 12)",
    "a body without an end": "raw(b'\\0\\0\\0\\2' + b'\\x7f' * 8 + b'{}')",
    "a schema that is none": "send({'kind': 'transformed', 'schema': 'bm90aGluZw=='})",
    "a schema in no letters": "send({'kind': 'transformed', 'schema': '?'})",
    "no schema": "send({'kind': 'transformed'})",
    "much that was printed": "send({'kind': 'transformed', 'schema': schema, 'printed': 'x' * 10**6})",
    "rows that are none": f"{_HONEST}rows_out(b'ARROW1' * 99)",
    "no rows in the rows": f"{_HONEST}rows_out(b'')",
    "other rows": f"{_HONEST}rows_out(encode(pa.record_batch({{'x': [1]}})))",
    "offsets that lead away": f"{_HONEST}rows_out(changed(bytes([0, 0, 0, 0, 2]), bytes([0, 0, 0, 0, 127])))",
    "text that is none": f"{_HONEST}rows_out(changed(b'xy', bytes([255, 255])))",
    "fewer bytes than rows": f"{_HONEST}rows_out(encode(pa.record_batch({{'id': ['xy'] * 99}}))[:-400])",
    "a closed wire": "os.close(wire_fd)",
    "a wire shut on one side": "socket.socket(fileno=os.dup(wire_fd)).shutdown(socket.SHUT_WR)",
}
UNREADABLE = {
    *("a schema that is none", "a schema in no letters", "no schema", "rows that are none", "no rows in the rows"),
    *("offsets that lead away", "text that is none", "fewer bytes than rows"),
}
FORGER = """\
import os, socket, struct, json, stat
def there(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
wire_fd = next(fd for fd in range(3, 64) if there(fd))
def raw(data):
    view = memoryview(data)
    while view:
        view = view[os.write(wire_fd, view):]
def send(header, body=b''):
    text, view = json.dumps(header).encode(), memoryview(body)
    raw(struct.pack('>IQ', len(text), view.nbytes) + text + bytes(view))
def encode(batch):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
def changed(honest, forged):
    return bytes(encode(pa.record_batch({'id': ['xy']}))).replace(honest, forged)
def rows_out(body):
    send({'kind': 'rows'}, body)
import base64
schema = base64.b64encode(rows.schema.serialize()).decode()
if len(rows):
    {forgery}
return rows"""


@pytest.mark.parametrize("name", tried(FORGED))
def test_a_forged_answer_is_no_more_than_a_wrong_one(python_steps: PythonSteps, name: str) -> None:
    body = FORGER.replace("{forgery}", FORGED[name])
    try:
        with pytest.raises(PlatformError) as caught:
            python_steps([python(body)], pa.table({"id": ["a", "b"]}))
    finally:
        python_steps.stop()  # its wire is out of step now
    assert caught.value.code in ("python-output-invalid", PYTHON_LOST), caught.value
    assert ("rows that cannot be read" in caught.value.detail) is (name in UNREADABLE), caught.value
    assert all(len(text) <= PRINTED_CHARACTERS for text in python_steps.printed)


def test_a_pickle_in_a_schema_is_not_opened(python_steps: PythonSteps) -> None:
    """An old way: a type of one's own whose making is a pickle, opened by whoever reads the schema."""
    body = (
        "import pickle, builtins\n"
        'class X:\n    def __reduce__(self):\n        return exec, ("import sys; sys.escaped = True",)\n'
        "bad = {'ARROW:extension:name': 'arrow.py_extension_type', 'ARROW:extension:metadata': pickle.dumps(X())}\n"
        "return pa.table([rows['id']], schema=pa.schema([pa.field('id', pa.int64(), metadata=bad)]))"
    )
    assert python_steps([python(body)], FLOW).values == FLOW.to_pylist()
    assert not hasattr(sys, "escaped")


def test_what_python_patches_changes_no_count(python_steps: PythonSteps) -> None:
    """It takes half of the rows away behind the function's back, in its own process: the other side counts."""
    body = (
        "from dataaggregator.dataplane.sandbox import rows as wire_rows\n"
        "from dataaggregator.dataplane.sandbox.python import worker\n"
        "from dataaggregator.dataplane.steps import base, row_ids\n"
        "base.SetStage = base.Stage = row_ids.RowIds = None\n"
        "honest = wire_rows.encode\n"
        "wire_rows.encode = lambda batch: honest(batch.slice(0, 1))\n"
        "return rows"
    )
    try:
        (counts,) = python_steps([python(body, row_ids=True)], FLOW).counts
    finally:
        python_steps.stop()  # what it patched stays patched
    assert (counts.read, counts.written, counts.kept, counts.filtered) == (3, 1, 1, {"transform": 2})
