"""Rate limits by the command line; what they hold is tests/integration/gateway's matter: here nobody comes near one."""

import json

from tests.e2e.platform import Platform


async def test_the_command_line_shows_and_clears(platform: Platform) -> None:
    shown = platform.command("rate-limits", "show", "--class", "login", "--address", "127.0.0.1")
    assert (shown.returncode, shown.stderr, "remaining" in shown.stdout) == (0, "", True)
    assert set(json.loads(platform.command("--json", "rate-limits", "show").stdout)) == {"items", "next_cursor"}
    cleared = platform.command("--json", "rate-limits", "clear", "--class", "login", "--address", "192.0.2.1")
    assert (cleared.returncode, json.loads(cleared.stdout)) == (0, {"cleared": 0})
    nothing_named = platform.command("rate-limits", "clear")
    assert (nothing_named.returncode, "should say which" in nothing_named.stderr) == (1, True)
