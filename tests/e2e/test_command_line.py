"""The command line against a platform with the demo's pipelines, as a user types it."""

import json
import time
from pathlib import Path

import pytest

from tests.e2e.platform import Platform

HELPED = (
    "up",
    "demo",
    "apply",
    "diff",
    "export",
    "doctor",
    "run",
    "runs",
    "logs",
    "events",
    "parked",
    "connectors",
    "hooks",
    "webhooks",
    "transform",
    "users",
    "api-keys",
    "db",
)


def json_of(platform: Platform, *words: str) -> object:
    done = platform.command("--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_run_follow_shows_the_ledger_and_ends_with_zero(demo: Platform) -> None:
    done = demo.command("run", "urban-population", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "Balanced: every row is accounted for." in done.stdout


def test_runs_logs_and_rejected_tell_about_a_run(demo: Platform) -> None:
    lines = demo.command("--json", "run", "urban-population", "--follow").stdout.splitlines()
    run = json.loads(lines[-1])
    assert run["status"] == "succeeded"
    listed = json_of(demo, "runs", "--pipeline", "urban-population")
    assert isinstance(listed, dict)
    assert run["id"] in [item["id"] for item in listed["items"]]
    told = json_of(demo, "verify", run["id"])
    assert isinstance(told, dict)
    assert (told["verified"], {one["status"] for one in told["destinations"]}) == (True, {"verified"})
    rejected = json_of(demo, "rejected", run["id"])
    assert isinstance(rejected, list)
    assert len(rejected) == run["rows_rejected"]
    assert {row["rule"] for row in rejected} == {"region-known", "has-land", "has-people"}
    (first, *_) = sorted(rejected, key=lambda row: row["rule"])
    of_rule = json_of(demo, "rejected", run["id"], "--rule", first["rule"])
    assert of_rule == [row for row in rejected if row["rule"] == first["rule"]]
    summary = json_of(demo, "rejected", run["id"], "--summary")
    assert isinstance(summary, dict)
    assert summary["rows"] == len(rejected)
    assert demo.command("logs", run["id"]).returncode == 0
    assert demo.command("logs", "--follow", run["id"]).returncode == 0


def test_runs_that_wait_for_more_than_a_free_slot_say_for_what(demo: Platform, tmp_path: Path) -> None:
    file = tmp_path / "moon.yaml"
    file.write_text("""
pipelines:
  - name: moon
    runs_on: [region=moon]
    sources: {cities: {connector: demo-files, stream: cities.csv}}
    destinations: [{connector: demo-files, stream: moon.csv, write: replace}]
""")
    assert demo.command("apply", "-f", str(file)).returncode == 0
    started = demo.command("run", "moon").stdout.split()[0]

    def waits() -> bool:
        shown = demo.command("runs", "--pipeline", "moon")
        assert shown.returncode == 0, shown.stderr
        return f"{started} waits: No executor that is alive has all of these labels: region=moon." in shown.stdout

    deadline = time.monotonic() + 30
    while not waits():
        assert time.monotonic() < deadline, "nothing says why the run waits"
    assert demo.command("cancel", started).returncode == 0
    assert not waits()


def test_a_workspace_is_given_a_limit_of_runs_and_freed_of_it(demo: Platform) -> None:
    assert json_of(demo, "run-limits", "set", "3") == {"runs": 3, "installation": None, "effective": 3}
    shown = demo.command("run-limits", "show")
    assert shown.stdout == "workspace: 3, installation: no limit, counts: 3\n"
    assert json_of(demo, "run-limits", "clear") == {"runs": None, "installation": None, "effective": None}
    assert demo.command("run-limits", "set", "0").returncode == 2


def test_rejected_rows_are_written_to_a_file_by_its_ending_or_replayed(demo: Platform, tmp_path: Path) -> None:
    lines = demo.command("--json", "run", "urban-population", "--follow").stdout.splitlines()
    run = json.loads(lines[-1])["id"]
    rejected = json_of(demo, "rejected", run)
    saved = demo.command("rejected", run, "--output", str(tmp_path / "rows.ndjson"))
    assert saved.returncode == 0, saved.stderr
    assert [json.loads(line) for line in (tmp_path / "rows.ndjson").read_text().splitlines()] == rejected
    refused = demo.command("replay", run, "--rule", "no-such-rule")
    assert refused.returncode == 1
    assert "no rejected rows of that stage and rule" in refused.stderr
    wrong = demo.command("rejected", run, "--output", str(tmp_path / "rows.xlsx"))
    assert wrong.returncode == 2
    assert "ndjson, csv, parquet" in wrong.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["rows.ndjson"]


def test_connectors_are_listed_tested_discovered_and_previewed(demo: Platform) -> None:
    listed = json_of(demo, "connectors", "list")
    assert isinstance(listed, list)
    of_the_demo = [item for item in listed if item["name"].startswith("demo-")]  # other files may have made others
    assert {item["name"] for item in of_the_demo} == {"demo-files", "demo-reference", "demo-warehouse"}
    for item in of_the_demo:
        tested = json_of(demo, "connectors", "test", item["name"])
        assert isinstance(tested, dict)
        assert tested["ok"], tested
    discovered = json_of(demo, "connectors", "discover", "demo-warehouse")
    assert isinstance(discovered, list)
    assert "geo.census" in [stream["name"] for stream in discovered]
    preview = json_of(demo, "connectors", "preview", "demo-reference", "countries", "--limit", "3")
    assert isinstance(preview, dict)
    assert [row["iso"] for row in preview["rows"]] == ["AD", "AE", "AF"]


def test_a_transformation_is_tried_on_rows_of_ones_own(demo: Platform, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"geonameid": 1, "population": 5}, {"geonameid": 2, "population": 50_000}]))
    tried = json_of(demo, "transform", "test", "large-enough", "--data", str(rows))
    assert isinstance(tried, dict)
    assert tried["output"] == [{"geonameid": 2, "population": 50_000}]
    assert tried["balanced"] is True


def test_a_transformation_in_a_file_is_tried_before_it_is_saved(demo: Platform, tmp_path: Path) -> None:
    rows, file = tmp_path / "rows.json", tmp_path / "newest.yaml"
    rows.write_text(json.dumps([{"id": 1, "at": 1}, {"id": 1, "at": 2}]))
    file.write_text("name: newest\nsteps:\n  - dedupe: {key: [id], order_by: [at desc]}\n")
    tried = json_of(demo, "transform", "test", str(file), "--data", str(rows))
    assert isinstance(tried, dict)
    assert (tried["output"], tried["steps"][0]["duplicates"]) == ([{"id": 1, "at": 2}], 1)


CHANGE = """
transformations:
  - name: large-enough
    inputs: [census]
    steps:
      - {{name: over-20000, filter: {condition}}}
"""


def test_a_plan_shows_old_and_new_side_by_side_and_ends_with_what_a_run_would(demo: Platform, tmp_path: Path) -> None:
    file = tmp_path / "change.yaml"
    file.write_text(CHANGE.format(condition="population >= 100000"))
    done = demo.command("plan", "census-history", "-f", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    (changed,) = [line for line in done.stdout.splitlines() if line.startswith("~")]
    assert changed.split()[1:3] == ["large-enough.over-20000", "filter"]
    assert "vanish=" in done.stdout
    assert "Nothing was written." in done.stdout
    told = json_of(demo, "plan", "census-history", "-f", str(file), "--sample-rows", "10")
    assert isinstance(told, dict)
    assert [told[one]["sources"][0]["rows"] for one in ("current", "proposed")] == [10, 10]
    file.write_text(CHANGE.format(condition="populatoin > 1"))
    done = demo.command("plan", "census-history", "-f", str(file))
    assert done.returncode == 1, done.stdout
    assert "definition-invalid" in done.stdout
    assert "populatoin" in done.stdout
    assert json_of(demo, "plan", "census-history") is not None, "it was not saved"


def test_a_pipeline_that_is_not_saved_is_planned_from_its_file(demo: Platform, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("""
pipelines:
  - name: not-there-yet
    sources: {cities: {connector: demo-files, stream: cities.csv}}
    destinations: [{connector: demo-files, stream: not_there_yet.csv, write: replace}]
""")
    done = demo.command("plan", "not-there-yet", "-f", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "create it" in done.stdout
    for words in (["plan", "not-there-yet"], ["plan", "neither", "-f", str(file)]):
        wrong = demo.command(*words)
        assert (wrong.returncode, "There is no pipeline" in wrong.stderr or "define no pipeline" in wrong.stderr) == (
            2,
            True,
        )


def test_applying_a_file_twice_changes_nothing_the_second_time(demo: Platform, tmp_path: Path) -> None:
    file = tmp_path / "definitions.yaml"
    file.write_text("transformations:\n  - name: applied\n    steps:\n      - filter: x > 1\n")
    assert demo.command("diff", "-f", str(file), "--exit-code").returncode == 1
    assert "+ created   transformation applied" in demo.command("apply", "-f", str(file)).stdout
    again = json_of(demo, "apply", "-f", str(file))
    assert isinstance(again, dict)
    assert [one["outcome"] for one in again["changes"]] == ["unchanged"]
    file.write_text("kind: transformation\nname: applied\nsteps:\n  - filter: x > 2\n")
    changed = demo.command("diff", "-f", str(tmp_path))
    assert '~ updated   transformation applied\n      steps[0].filter: "x > 1" -> "x > 2"\n' in changed.stdout
    assert demo.command("diff", "-f", str(file), "--exit-code").returncode == 1, "nothing was changed"


def test_what_is_wrong_in_files_is_named_by_file_and_definition_and_nothing_is_saved(
    demo: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("""
name: good-one
steps: [{filter: x > 1}]
---
name: bad-one
steps: [{filter: x >}]
---
pipelines:
  - {name: bad-two, sources: {a: {connector: demo-files, stream: cities.csv, reed: incremental}}}
""")
    done = demo.command("apply", "-f", str(file))
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert f"  {file}: transformation bad-one: steps[0].filter:" in "\n".join(told)
    assert any(line.startswith(f"  {file}: pipeline bad-two: sources.a.reed: unknown field") for line in told)
    assert demo.command("transform", "test", "good-one", "-d", "/dev/null").returncode != 0
    assert "~ " not in demo.command("diff", "-f", str(file)).stdout


def test_what_one_platform_exports_another_has_after_apply(demo: Platform, tmp_path: Path) -> None:
    file = tmp_path / "exported.yaml"
    done = demo.command("export", "-o", str(file))
    assert (done.returncode, "set CONNECTOR_DEMO_WAREHOUSE_URL where" in done.stderr) == (0, True), done.stderr
    assert (demo.home.path / "demo.password").read_text() not in file.read_text()
    part = demo.command("export", "--kind", "pipeline", "--name", "urban-population", "--name", "nobody")
    assert [line for line in part.stdout.splitlines() if line.startswith(("kind:", "name:"))] == [
        "kind: pipeline",
        "name: urban-population",
    ]
    assert (part.stdout in file.read_text(), part.stderr) == (True, "")
    both = demo.command("export", "--installation", str(tmp_path / "all"), "--kind", "pipeline")
    assert (both.returncode, "--kind and --name are for definitions" in both.stderr) == (2, True)
    other = Platform(tmp_path)
    with other.running():
        applied = other.command("apply", "-f", str(file))
        assert applied.returncode == 0, applied.stderr
        assert "+ created   pipeline urban-population" in applied.stdout
        assert other.command("diff", "-f", str(file), "--exit-code").returncode == 0
        assert other.command("export").stdout == file.read_text()


def test_a_user_is_created_kept_out_and_let_in_again(demo: Platform) -> None:
    created = json_of(demo, "users", "create", "reader@example.org", "--role", "viewer")
    assert isinstance(created, dict)
    assert created["email"] == "reader@example.org"
    assert "inactive" in demo.command("users", "deactivate", "reader@example.org").stdout
    assert "active" in demo.command("users", "activate", "reader@example.org").stdout


def test_a_lost_password_is_set_anew_and_the_token_is_good_once(demo: Platform) -> None:
    json_of(demo, "users", "create", "lost@example.org")
    allowed = json_of(demo, "users", "reset-password", "lost@example.org")
    assert isinstance(allowed, dict)
    spoken = f"{allowed['token']}\nstaple of that battery\n"
    done = demo.command("users", "set-password", given=spoken)
    assert (done.returncode, "has ended" in done.stdout) == (0, True), done.stderr
    again = demo.command("users", "set-password", given=spoken)
    assert (again.returncode, "sets no password" in again.stderr) == (1, True), again.stdout
    own = {"DATAAGGREGATOR_EMAIL": "lost@example.org", "DATAAGGREGATOR_PASSWORD": "staple of that battery"}
    changed = demo.command(
        "users", "change-password", given="staple of that battery\nanother long one\n", environment=own
    )
    assert (changed.returncode, "is changed" in changed.stdout) == (0, True), changed.stderr


def test_a_program_logs_in_with_a_key_until_it_is_taken_back(demo: Platform) -> None:
    json_of(demo, "users", "create", "robot@example.org", "--service", "--role", "operator")
    made = json_of(demo, "api-keys", "create", "nightly", "--scope", "runs:read", "--owner", "robot@example.org")
    assert isinstance(made, dict)
    with_key = {"DATAAGGREGATOR_TOKEN": made["key"]}
    assert demo.command("runs", environment=with_key).returncode == 0
    assert "permission runs:operate" in demo.command("run", "urban-population", environment=with_key).stderr
    assert "nightly" in demo.command("api-keys", "list").stdout
    assert demo.command("api-keys", "revoke", "nightly").returncode == 0
    assert "is not valid" in demo.command("runs", environment=with_key).stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("run", "no-such-pipeline"), 1, "no-such-pipeline"),
        (("run", "urban-population", "-p", "novalue"), 2, "NAME=VALUE"),
        (("apply", "-f", "/does/not/exist.yaml"), 2, "does not exist"),
        (("logs", "not-an-id"), 1, "should be an id"),
        (("users", "create", "nobody"), 1, "email"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(demo: Platform, words: tuple[str, ...], code: int, told: str) -> None:
    done = demo.command(*words)
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_many_commands_in_a_row_are_one_login(demo: Platform) -> None:
    answers = [demo.command("runs", "--limit", "1") for _ in range(12)]  # ten logins a minute are allowed
    assert [done.stderr for done in answers if done.returncode] == []
    kept = demo.home.path / "login.json"
    assert kept.stat().st_mode & 0o077 == 0


def test_a_kept_login_that_was_ended_is_made_anew(demo: Platform) -> None:
    kept = demo.home.path / "login.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"token": "ended", "refresh_token": "ended"}))
    assert demo.command("runs").returncode == 0


def test_the_doctor_finds_a_platform_that_is_up_well(demo: Platform) -> None:
    told = json_of(demo, "doctor")
    assert isinstance(told, dict)
    found = {one["name"]: one["status"] for one in told["checks"]}
    assert (found["kernel"], found["database"], found["platform"]) == ("ok", "ok", "ok"), told


def test_a_second_platform_on_the_same_home_is_told_where_the_first_is(demo: Platform) -> None:
    done = demo.command("up")
    assert done.returncode == 2
    assert demo.url in done.stderr


def test_wrong_settings_are_one_line_a_variable(demo: Platform, tmp_path: Path) -> None:
    wrong = Platform(tmp_path, {"GATEWAY_PORT": "99999", "LOG_LEVEL": "loud"})
    done = wrong.command("up")
    assert done.returncode == 2
    assert [line.split("=")[0] for line in done.stderr.strip().splitlines()] == ["GATEWAY_PORT", "LOG_LEVEL"]


def test_a_port_in_use_is_one_clear_sentence(demo: Platform, tmp_path: Path) -> None:
    port = demo.url.rpartition(":")[2]
    done = Platform(tmp_path, {"GATEWAY_PORT": port}).command("up")
    assert done.returncode == 2
    assert port in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_home_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, not a folder")
    done = Platform(tmp_path).command("up")
    assert done.returncode == 2
    assert "DATAAGGREGATOR_HOME" in done.stderr


def test_version_and_help_need_no_platform(tmp_path: Path) -> None:
    alone = Platform(tmp_path)
    assert alone.command("version").stdout.startswith("dataaggregator ")
    for word in HELPED:
        assert alone.command(word, "--help").returncode == 0


def test_a_change_of_schema_is_approved_and_then_made(demo: Platform, tmp_path: Path) -> None:
    definitions = tmp_path / "definitions.yaml"
    definitions.write_text(f"""
connectors: [{{name: approved-files, type: files, config: {{root: "file://{tmp_path}"}}}}]
pipelines:
  - name: approved-change
    sources: {{rows: {{connector: approved-files, stream: rows.csv}}}}
    destinations: [{{connector: approved-files, stream: kept, schema_policy: pause}}]
""")
    (tmp_path / "rows.csv").write_text("id\n1\n")
    assert demo.command("apply", "-f", str(definitions)).returncode == 0
    assert demo.command("run", "approved-change", "--follow").returncode == 0
    (tmp_path / "rows.csv").write_text("id,note,other\n2,b,c\n")
    stopped = demo.command("run", "approved-change", "--follow")
    assert stopped.returncode == 1
    assert "schema-change-waits" in stopped.stdout + stopped.stderr
    some = demo.command("approve", "approved-change", "--field", "note")
    assert "approved-change is blocked." in some.stdout, some.stderr
    rest = demo.command("approve", "approved-change")
    assert "approved-change is active." in rest.stdout, rest.stderr
    assert "other" in rest.stdout
    assert "note" not in rest.stdout
    nothing = demo.command("approve", "approved-change")
    assert (nothing.returncode, "No change of schema waits" in nothing.stderr) == (1, True)
    assert demo.command("run", "approved-change", "--follow").returncode == 0
