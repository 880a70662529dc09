"""Look of all pages, light or dark as the reader's system is, and the script that draws their figures."""

import json

# lines of figures on a light page; on a dark one, those in LIGHTER are drawn in the colour that stands there
BLUE, ORANGE, GREEN, GREY = "#2f6db5", "#c8701a", "#4a9468", "#808890"
LIGHTER = {BLUE: "#6ea8e8", ORANGE: "#e8a050"}

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2429; --muted: #626b75; --line: #e3e6ea; --page: #ffffff; --soft: #f5f7f9; --accent: #2f6db5;
  --mark: #e7f0fa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7ea; --muted: #9aa4ae; --line: #30363d; --page: #14171a; --soft: #1c2125; --accent: #6ea8e8;
    --mark: #1d2f43;
  }
}
* { box-sizing: border-box; }
body {
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: var(--page);
  max-width: 1080px; margin: 0 auto; padding: 2rem 1.25rem 4rem;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 3rem 0 .4rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { max-width: 46rem; margin: .3rem 0 1rem; }
.muted, small { color: var(--muted); }
small { font-size: .85em; }
code { font: .9em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; margin: 1.6rem 0 1.4rem; }
.card { background: var(--soft); border-radius: 10px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.75rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card small { display: block; }
.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem 1.4rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--muted); font-size: .88em; white-space: nowrap; vertical-align: bottom; }
th:last-child, td:last-child { padding-right: .4rem; }
.number { text-align: right; white-space: nowrap; }
tr.marked td { background: var(--mark); }
td small { display: block; line-height: 1.3; }
.data td:nth-child(2) { text-align: right; font-weight: 600; white-space: nowrap; }
.data td:nth-child(3) { color: var(--muted); }
.note { background: var(--soft); border-left: 3px solid var(--accent); padding: .6rem .9rem; border-radius: 0 6px 6px 0; }
.verdict { font-size: 1.3rem; line-height: 1.35; font-weight: 600; max-width: none; margin: 1.4rem 0 .8rem; padding: .9rem 1.1rem; background: var(--soft); border-left: 5px solid var(--muted); border-radius: 0 8px 8px 0; }
.verdict.yes { border-color: #3f9a62; }
.verdict.no { border-color: #c2523f; }
.verdict.unclear { border-color: #c8901a; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.6rem 2rem; margin: 1.2rem 0; }
.figures.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.figures.four { grid-template-columns: repeat(auto-fill, minmax(min(100%, 235px), 1fr)); gap: 1rem 1.4rem; margin-top: .4rem; }
.figures.four h3 { font-size: .9rem; font-weight: 500; margin: 0; }
figure { margin: 0; min-width: 0; }
.plot { min-height: 300px; }
.four .plot { min-height: 220px; }
h3.place { color: var(--muted); font-weight: 500; border-top: 1px solid var(--line); padding-top: .8rem; margin-top: 1.4rem; }
h4 { font-size: .95rem; margin: 1.1rem 0 .2rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; max-width: none; margin: .6rem 0; font-size: .9rem; }
.legend i { display: inline-block; width: 1.1em; height: .32em; border-radius: 2px; margin-right: .45em; vertical-align: middle; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: .4rem 3rem; margin-bottom: 1.2rem; }
.bars table, .overview { width: 100%; font-size: .9rem; }
.bars th, .bars td, .overview th, .overview td { padding: .2rem 1rem .2rem 0; }
.bars th:last-child, .bars td:last-child { padding-right: .2rem; }
.bars td:first-child, .overview td:first-child { white-space: nowrap; }
.bars td:nth-child(2) { width: 60%; min-width: 60px; vertical-align: middle; }
.bars i { display: block; height: .7em; min-width: 2px; border-radius: 2px; background: var(--muted); opacity: .55; }
.bars i.own { background: var(--accent); opacity: 1; }
.overview tbody th { padding-top: .9rem; font-size: 1em; }
.overview td:nth-child(2) { width: 50%; min-width: 70px; vertical-align: middle; }
.span { position: relative; height: 1em; }
.span > * { position: absolute; }
.span i { top: .35em; height: .3em; min-width: 2px; border-radius: 2px; background: var(--accent); opacity: .5; }
.span b { top: .1em; height: .8em; width: 3px; margin-left: -1px; border-radius: 2px; background: var(--accent); }
.span s { top: -.35em; height: 1.7em; border-left: 1px solid var(--muted); opacity: .5; }
.trial .span i { top: .2em; height: .6em; }
.trial .span b { top: .2em; height: .6em; min-width: 3px; margin: 0; }
details + details { margin-top: .6rem; }
a { color: var(--accent); }
.sample { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 1.4rem; }
header .sides { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 1rem 3rem; }
.sample .sides { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 0 2.5rem; }
.sample table { width: 100%; }
.sample h4 { font-size: .88rem; margin: .6rem 0 0; color: var(--muted); font-weight: 600; }
.sample td { padding-right: .8rem; }
.sample td:first-child { white-space: nowrap; color: var(--muted); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1.4rem; margin: .8rem 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font: .85em/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (max-width: 900px) {
  .figures, .figures.three, header .sides, .sample .sides { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 600px) {
  body { padding: 1.2rem .9rem 3rem; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  th, td { padding-right: .9rem; }
  .bars table { font-size: .84rem; }
  .overview { font-size: .76rem; }
  .bars td:first-child, .overview td:first-child { white-space: normal; }
  .bars td, .bars th { padding-right: .5rem; }
  .overview td, .overview th { padding-right: .35rem; }
  .bars td:nth-child(2), .bars th:nth-child(2), .overview td:nth-child(2), .overview th:nth-child(2), .wide,
  .overview td:last-child, .overview thead th:last-child { display: none; }
  .overview.trial td:nth-child(n + 4):not(:last-child), .overview.trial th:nth-child(n + 4):not(:last-child) { display: none; }
  .overview.trial td:last-child, .overview.trial thead th:last-child { display: table-cell; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; }
}
"""

SCRIPT = (
    f"const lighter = {json.dumps([*LIGHTER.items()])};"
    + """
const dark = matchMedia("(prefers-color-scheme: dark)");
function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function drawFigures() {
  for (const figure of document.querySelectorAll("figure")) {
    let source = figure.querySelector("script").textContent;
    if (dark.matches) for (const [from, to] of lighter) source = source.replaceAll(from, to);
    const {data, layout} = JSON.parse(source);
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = {...layout.font, family: "system-ui, sans-serif", size: 12, color: colour("--muted")};
    for (const name of ["xaxis", "yaxis"]) {
      layout[name] = {gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
                      automargin: true, fixedrange: true, ...layout[name]};
    }
    layout.xaxis.showgrid = false;
    layout.hoverlabel = {bgcolor: colour("--page"), font: {color: colour("--ink")}, bordercolor: colour("--line")};
    for (const note of layout.annotations || []) note.font = {color: colour("--muted")};
    Plotly.react(figure.querySelector(".plot"), data, layout, {displayModeBar: false});
  }
  for (const key of document.querySelectorAll("[data-colour]")) {
    const pair = lighter.find(([from]) => dark.matches && from === key.dataset.colour);
    key.style.background = pair ? pair[1] : key.dataset.colour;
  }
}
drawFigures();
const fitted = new ResizeObserver(entries => {
  for (const {target} of entries) if (target.offsetWidth) Plotly.Plots.resize(target);
});
for (const plot of document.querySelectorAll(".plot")) fitted.observe(plot);
dark.addEventListener("change", drawFigures);
"""
)
