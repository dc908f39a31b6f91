"""The style sheet of every report: one set of names, two sets of colours."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #ffffff; --ink: #1d2126;
  --soft: #5f6873; --rule: #e3e1dc; --fcfs: #c2622d; --ssjf: #1f6fb2; --first: #7a5ea8;
  --wait: #d3a029; --stream: #3c8d6e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e6e8ea;
  --soft: #9aa4ae; --rule: #30363c; --fcfs: #e8915f; --ssjf: #63aee8; --first: #ae96dd;
  --wait: #dcb552; --stream: #6cc0a0; --bad: #f2857d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 19px; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 75ch; }
.soft, small { color: var(--soft); }
.failed { color: var(--bad); font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 20px; margin: 20px 0; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; min-width: 0; }
section.wide { margin: 20px 0; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-top: 1px solid var(--rule);
  vertical-align: middle; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: 14px; }
tbody th { font-weight: 500; }
.figures td { text-align: right; } .figures thead th:not(:first-child) { text-align: right; }
.figures tbody tr:nth-child(3n+2) > * { border-top-color: var(--soft); }
code { font: 12px/1.4 ui-monospace, monospace; color: var(--soft); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; } svg .mid { text-anchor: middle; }
svg .end { text-anchor: end; } svg .name { fill: var(--ink); font-size: 13px; }
.axis { fill: none; stroke: var(--soft); } .grid { stroke: none; }
path.grid { stroke: var(--rule); fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.FCFS { stroke: var(--fcfs); } .line.SSJF { stroke: var(--ssjf); }
.line.even { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 4; }
.dots { fill-opacity: .6; } .dots.FCFS, .bar.FCFS { fill: var(--fcfs); }
.dots.SSJF, .bar.SSJF { fill: var(--ssjf); }
.legend span { margin-right: 18px; white-space: nowrap; font-size: 14px; }
i.key, .legend i { display: inline-block; width: 14px; height: 10px; margin-right: 6px;
  border-radius: 2px; }
i.FCFS { background: var(--fcfs); } i.SSJF { background: var(--ssjf); }
i.queue { background: var(--wait); } i.first { background: var(--first); }
i.stream { background: var(--stream); }
.falls th { width: 34%; font-size: 14px; } .falls td { white-space: nowrap; font-size: 14px; }
td.bars { width: 40%; min-width: 200px; white-space: nowrap; font-size: 0; }
td.bars .seg { display: inline-block; height: 14px; }
"""
