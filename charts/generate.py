"""Generates the chart's copies (CRD, version), its dashboards and the tables of its two pages.

Run by `make generate`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import dashboards
from describe_values import describe

ROOT: Final = Path(__file__).resolve().parents[1]
CRD: Final = ROOT / "crds" / "llmservice.yaml"
CHART: Final = ROOT / "charts" / "llmservice"
COPY: Final = CHART / "templates" / "crds" / "llmservice.yaml"
PAGE: Final = ROOT / "docs" / "chart.md"
README: Final = CHART / "README.md"
_MARKS: Final = ("<!-- values: made by `make generate` -->\n", "<!-- end of values -->\n")
_NAME: Final = "  name: llmservices.llmservice.dev\n"
_KEEP: Final = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def chart_crd(crd: str) -> str:
    """The CRD as a template that can be left out and that survives the chart's uninstallation."""
    if "{{" in crd or crd.count(_NAME) != 1:
        raise ValueError(
            f"{CRD}: expected one line {_NAME.strip()!r} and no '{{{{', which Helm would read"
        )
    body = crd.replace(_NAME, _NAME + _KEEP)
    note = "# Generated from crds/llmservice.yaml by `make generate`; do not edit.\n"
    return f"{{{{- if .Values.crds.install }}}}\n{note}{body.rstrip()}\n{{{{- end }}}}\n"


def with_version(chart: str, version: str) -> str:
    """Chart.yaml with both of its versions set."""
    return re.sub(r"^(version|appVersion): .*$", rf"\g<1>: {version}", chart, flags=re.MULTILINE)


def with_values(page: str, values: str, *, name: str) -> str:
    """The page with the tables of all values between its two marks.

    Raises ValueError with `name` when it has not exactly one of each mark, in their order.
    """
    begin, end = _MARKS
    if (page.count(begin), page.count(end)) != (1, 1) or page.index(begin) > page.index(end):
        raise ValueError(f"{name}: expected one {begin.strip()!r} above one {end.strip()!r}")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{describe(values)}\n{end}{after}"


def main() -> int:
    """Write the copies."""
    source = (ROOT / "operator" / "llmservice_api" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    if version is None:
        print("error: operator/llmservice_api/__init__.py holds no __version__", file=sys.stderr)
        return 1
    COPY.write_text(chart_crd(CRD.read_text(encoding="utf-8")), encoding="utf-8")
    dashboards.write(CHART / "dashboards")
    chart = CHART / "Chart.yaml"
    text = with_version(chart.read_text(encoding="utf-8"), version.group(1))
    chart.write_text(text, encoding="utf-8")
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    for path in (PAGE, README):
        page = with_values(path.read_text(encoding="utf-8"), values, name=path.name)
        path.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
