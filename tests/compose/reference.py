"""The demo's REST API, in a container that has Python and nothing else: a page of countries at a time."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE_ROWS = 50
PORT = 8080
COUNTRIES = Path("/countries.json")


class Handler(BaseHTTPRequestHandler):
    """``GET /countries?page=1``."""

    def do_GET(self) -> None:
        """Answer one page; one past the last is empty."""
        countries = json.loads(COUNTRIES.read_text())
        page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
        start = (page - 1) * PAGE_ROWS
        body = json.dumps({"countries": countries[start : start + PAGE_ROWS], "of": len(countries)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104  a network of the test's own
