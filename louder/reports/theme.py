"""Look of the page, light or dark as the reader's system is, and the script that draws its figures."""

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
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.6rem 2rem; margin: 1.2rem 0; }
.figures.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
figure { margin: 0; min-width: 0; }
.plot { min-height: 300px; }
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
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; }
}
"""

# figures come in the colours of a light page; on a dark one they are drawn in lighter ones
SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const lighter = [["#2f6db5", "#6ea8e8"], ["47,109,181", "110,168,232"], ["#c8701a", "#e8a050"]];
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
}
drawFigures();
const fitted = new ResizeObserver(entries => { for (const entry of entries) Plotly.Plots.resize(entry.target); });
for (const plot of document.querySelectorAll(".plot")) fitted.observe(plot);
dark.addEventListener("change", drawFigures);
"""
