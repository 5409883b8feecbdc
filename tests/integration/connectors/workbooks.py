"""Makes workbooks for tests, part by part: what a spreadsheet would never write can be written too."""

import re
import zipfile
from pathlib import Path

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
# Styles by number: 1 a day, 2 a moment, 3 a time, 4 a length of time.
STYLES = f'<styleSheet {MAIN}><cellXfs count="5">{{}}</cellXfs></styleSheet>'.format(
    "".join(f'<xf numFmtId="{form}"/>' for form in (0, 14, 22, 21, 46))
)
TYPES = (
    f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>'
)


def text(ref: str, value: str) -> str:
    return f'<c r="{ref}" t="inlineStr"><is><t>{value}</t></is></c>'


def number(ref: str, value: str, style: int = 0) -> str:
    return f'<c r="{ref}" s="{style}"><v>{value}</v></c>'


def write_workbook(path: Path, sheets: dict[str, str], *, after: str = "", properties: str = "") -> None:
    """Sheets by name as their cells in order; `after` stands behind each one's rows."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("[Content_Types].xml", TYPES)
        parts.writestr("_rels/.rels", _relations({"rId1": ("officeDocument", "xl/workbook.xml")}))
        listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(sheets, 1))
        parts.writestr(
            "xl/workbook.xml",
            f'<workbook {MAIN} xmlns:r="{OFFICE}">{properties}<sheets>{listed}</sheets></workbook>',
        )
        targets = {f"rId{n}": ("worksheet", f"worksheets/sheet{n}.xml") for n, _ in enumerate(sheets, 1)}
        parts.writestr("xl/_rels/workbook.xml.rels", _relations(targets | {"rIdS": ("styles", "styles.xml")}))
        parts.writestr("xl/styles.xml", STYLES)
        for n, cells in enumerate(sheets.values(), 1):
            sheet = f"<worksheet {MAIN}><sheetData>{_rows(cells)}</sheetData>{after}</worksheet>"
            parts.writestr(f"xl/worksheets/sheet{n}.xml", sheet)


def _relations(targets: dict[str, tuple[str, str]]) -> str:
    each = (f'<Relationship Id="{i}" Type="{OFFICE}/{kind}" Target="{to}"/>' for i, (kind, to) in targets.items())
    return f'<Relationships xmlns="{PACKAGE}/relationships">{"".join(each)}</Relationships>'


def _rows(cells: str) -> str:
    rows: dict[int, str] = {}
    for cell in re.findall(r"<c .*?</c>", cells, re.DOTALL):
        found = re.search(r'r="[A-Z]+(\d+)"', cell)
        assert found is not None
        rows[int(found[1])] = rows.get(int(found[1]), "") + cell
    return "".join(f'<row r="{at}">{row}</row>' for at, row in sorted(rows.items()))
