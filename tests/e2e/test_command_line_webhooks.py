"""Webhooks on the command line, both ways, as a user types them."""

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.e2e.platform import Platform

SECONDS = 30.0
NEVER = "http://127.0.0.1:9/never"


def json_of(platform: Platform, *words: str) -> Any:
    done = platform.command("--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def received() -> Any:
    """An address, and the ids of the calls that it took."""
    ids: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            ids.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", ids
    server.shutdown()
    server.server_close()


def until(ids: list[str], count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while len(ids) < count:
        assert time.monotonic() < deadline, f"only {ids} came"
        time.sleep(0.05)


def test_a_webhook_is_made_looked_after_and_deleted(
    demo: Platform, received: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, ids = received
    made = json_of(demo, "webhooks", "create", "told", url, "--type", "run.succeeded.v1", "--type", "pipeline.*")
    assert made["secret"].startswith("whsec_")
    assert made["types"] == ["run.succeeded.v1", "pipeline.*"]
    assert demo.command("run", "urban-population", "--follow").returncode == 0
    until(ids, 1)
    assert "told" in [one["name"] for one in json_of(demo, "webhooks", "list")]
    [delivery] = json_of(demo, "webhooks", "deliveries", "told", "--status", "delivered")["items"]
    assert (delivery["event_id"], delivery["attempts"]) == (ids[0], 1)
    again = demo.command("webhooks", "redeliver", "told", delivery["id"])
    assert "run.succeeded.v1" in again.stdout, again.stderr
    until(ids, 2)
    assert set(ids) == {delivery["event_id"]}
    (tmp_path / "secret").write_text(f"{made['secret']}\n")
    own = json_of(demo, "webhooks", "rotate", "told", "--secret", str(tmp_path / "secret"), "--overlap", "60")
    assert (own["secret"], own["previous_ends_at"] is None) == (made["secret"], False)
    assert "told is paused." in demo.command("webhooks", "disable", "told").stdout
    assert "told is active." in demo.command("webhooks", "enable", "told").stdout
    assert json_of(demo, "webhooks", "delete", "told") == {"deleted": "told"}
    gone = demo.command("webhooks", "deliveries", "told")
    assert (gone.returncode, "no webhook 'told'" in gone.stderr) == (1, True)


def test_the_address_of_a_hook_is_made_and_starts_a_run_until_it_is_taken_back(demo: Platform, tmp_path: Path) -> None:
    definitions = tmp_path / "definitions.yaml"
    definitions.write_text(f"""
connectors: [{{name: hooked-files, type: files, config: {{root: "file://{tmp_path}"}}}}]
pipelines:
  - name: hooked
    sources: {{rows: {{connector: hooked-files, stream: rows.csv}}}}
    destinations: [{{connector: hooked-files, stream: kept}}]
    triggers: [{{webhook: true}}]
""")
    (tmp_path / "rows.csv").write_text("id\n1\n")
    assert demo.command("apply", "-f", str(definitions)).returncode == 0
    made = json_of(demo, "hooks", "rotate", "hooked")
    assert made["url"] == demo.url + made["path"]
    shown = json_of(demo, "hooks", "show", "hooked")
    assert (shown["signed"], len(shown["tokens"])) == (False, 1)
    assert "Calls need no signature." in demo.command("hooks", "show", "hooked").stdout
    replaced = demo.command("hooks", "rotate", "hooked", "--overlap", "0")
    assert "address: http" in replaced.stdout, replaced.stderr
    assert made["token"] not in replaced.stdout
    assert json_of(demo, "hooks", "revoke", "hooked") == {"revoked": "hooked"}
    assert json_of(demo, "hooks", "show", "hooked")["tokens"] == []


def test_what_is_wrong_with_a_webhook_is_named(demo: Platform) -> None:
    wrong = demo.command("webhooks", "create", "wrong", NEVER, "--type", "no.such.v1")
    assert wrong.returncode == 1
    assert "types" in wrong.stderr
    assert demo.command("webhooks", "create", "wrong", NEVER).returncode == 2
    none = demo.command("hooks", "show", "urban-population")
    assert (none.returncode, none.stderr.startswith("error: ")) == (1, True)
