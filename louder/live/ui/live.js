// Asks once a second how the world goes, and draws it.

const EVERY_MS = 1_000, HOUR = 3_600;
const WHO = {
  streaming: ["Streaming", "learns from every click"],
  control: ["Frozen", "the same model, as it was"],
  popularity: ["Popularity", "what most clicked lately"],
  oracle: ["Oracle", "knows every taste: the most there is"],
};
const SVG = "http://www.w3.org/2000/svg";
const byId = id => document.getElementById(id);
const percent = share => `${share >= 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(Math.abs(share) < .1 ? 1 : 0)} %`;
const whole = count => count.toLocaleString("en");

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const coloured = (node, who) => (node.style.setProperty("--own", `var(--${who})`), node);
const latest = values => values?.findLast(value => value !== null) ?? null;

function moment(seconds, start) {
  const day = Math.floor((seconds - start) / (24 * HOUR)) + 1;
  return `Day ${day}, ${new Date(seconds * 1_000).toISOString().slice(11, 16)}`;
}

function since(seconds) {
  if (seconds < 90 * 60) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return seconds < 48 * HOUR ? `${Math.round(seconds / HOUR)} h` : `${Math.round(seconds / (24 * HOUR))} days`;
}

function scores(reward) {
  byId("scores").replaceChildren(...Object.entries(WHO).map(([who, [name, what]]) => {
    const value = latest(reward[who]), side = who === "popularity" || who === "oracle";
    const box = make("div", { className: side ? "score side" : "score" }, make("span", {}, name), make("b", {}, value === null ? "–" : value.toFixed(2)),
      make("small", {}, what));
    return coloured(box, who);
  }));
}

function chart({ reward, start, end }) {
  const svg = byId("chart"), width = svg.clientWidth, height = svg.clientHeight, left = 34, right = 96, bottom = 26, top = 24;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const hours = Math.max(6, reward.streaming?.length ?? 0), all = Math.round((end - start) / HOUR);
  const shown = Math.min(all, Math.max(12, hours + 1));
  const most = Math.max(.5, ...["streaming", "control", "popularity"].flatMap(who => reward[who] ?? []).filter(x => x !== null)) * 1.25;
  const oracle = latest(reward.oracle), x = hour => left + (hour / shown) * (width - left - right), y = value => height - bottom - (value / most) * (height - bottom - top);
  const parts = [];
  for (let hour = 0; hour < shown; hour++) {
    const clock = (start / HOUR + hour) % 24;
    if (clock < 6) parts.push(draw("rect", { class: "night", x: x(hour), y: top, width: x(1) - x(0) + .5, height: height - bottom - top }));
    if (clock % (shown > 40 ? 12 : 6) === 0) parts.push(draw("text", { x: x(hour), y: height - 8, "text-anchor": "middle" }, `${String(clock).padStart(2, "0")}:00`));
  }
  const step = most > 3 ? 1 : most > 1.2 ? .5 : .25;
  for (let value = 0; value <= most; value += step) {
    parts.push(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }), draw("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(step < .5 ? 2 : 1)));
  }
  const points = who => (reward[who] ?? []).flatMap((value, hour) => value === null ? [] : [[x(hour + .5), y(value)]]);
  const streaming = points("streaming"), control = points("control");
  if (streaming.length > 1 && control.length > 1) parts.push(draw("polygon", { class: "gain", points: [...streaming, ...control.toReversed()].join(" ") }));
  const labels = [];
  for (const who of ["popularity", "control", "streaming"]) {
    const line = points(who);
    if (!line.length) continue;
    const [endX, endY] = line.at(-1);
    parts.push(coloured(draw("polyline", { class: who === "popularity" ? "curve side" : "curve", points: line.join(" ") }), who));
    if (who !== "popularity") parts.push(coloured(draw("circle", { class: "pulse", cx: endX, cy: endY, r: 4 }), who), coloured(draw("circle", { class: "dot", cx: endX, cy: endY, r: 4 }), who));
    labels.push({ who, x: endX + 12, y: endY + 4 });
  }
  labels.sort((a, b) => a.y - b.y).forEach((label, n) => { if (n) label.y = Math.max(label.y, labels[n - 1].y + 16); });
  for (const label of labels) {
    const text = draw("text", { class: "name", x: label.x, y: label.y }, WHO[label.who][0]);
    text.style.fill = `var(--${label.who})`;
    parts.push(text);
  }
  if (oracle !== null && oracle > most) {
    const text = draw("text", { class: "name", x: width - right, y: 14, "text-anchor": "end" }, `↑ an oracle: ${oracle.toFixed(1)}`);
    text.style.fill = "var(--oracle)";
    parts.push(text);
  }
  svg.replaceChildren(...parts);
}

function lately(events) {
  byId("lately").replaceChildren(...events.map(event => {
    const dot = coloured(make("i", { title: WHO[event.variant]?.[0] ?? "" }), event.variant), fresh = event.age_s < 6 * HOUR;
    return make("li", {}, make("span", { className: "who" }, dot, `user ${event.user}`), make("span", {}, event.action === "like" ? "liked " : "clicked ", make("b", {}, event.item)),
      make("span", { className: fresh ? "age new" : "age" }, fresh ? `new, ${since(event.age_s)}` : `${since(event.age_s)} old`));
  }));
}

function fresh({ now, trained, model, requests, clicks, launched, items, users }) {
  const rows = [
    ["has learnt from all until", trained ? `${since(Math.max(60, now - trained.upto))} ago` : "the beginning"],
    ["windows learnt", whole(trained?.windows ?? 0)],
    ["clicks and likes learnt", whole(trained?.events ?? 0)],
    ["models put live without a pause", whole(model?.taken ?? 0)],
    ["items launched since", `${whole(launched ?? 0)} of ${whole(items ?? 0)}`],
    ["lists shown, clicks", `${whole(requests ?? 0)}, ${whole(clicks ?? 0)}`],
    ["people", whole(users ?? 0)],
  ];
  byId("fresh").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function test(found, start) {
  const svg = byId("interval"), width = svg.clientWidth;
  svg.setAttribute("viewBox", `0 0 ${width} 64`);
  if (!found || found.lift === null || found.low === null) {
    byId("verdict").textContent = "It begins when a hundred people of each side have asked.";
    svg.replaceChildren();
    return;
  }
  const far = Math.max(.2, Math.abs(found.low), Math.abs(found.high)) * 1.05, x = value => width / 2 + Math.max(-1, Math.min(1, value / far)) * (width / 2 - 8);
  const middle = (found.low + found.high) / 2;
  svg.replaceChildren(
    draw("rect", { class: "span", x: x(found.low), width: Math.max(2, x(found.high) - x(found.low)), y: 14, height: 18, rx: 9 }),
    draw("line", { class: "zero", x1: x(0), x2: x(0), y1: 4, y2: 42 }),
    draw("circle", { class: "point", cx: x(middle), cy: 23, r: 6 }),
    ...[[found.low, "start"], [found.high, "end"]].map(([value, anchor]) => draw("text", { x: x(value), y: 56, "text-anchor": anchor }, percent(value))));
  const said = { better: `decided: better, since ${moment(found.decided_at ?? start, start)}`, worse: "decided: worse", open: "not decided yet", refused: "not judged" }[found.verdict];
  byId("verdict").textContent = found.refused || `Clicks per list beside the frozen model, ${said}. The bar holds whenever one looks, with 95 %; ${whole(found.users[0])} and ${whole(found.users[1])} people.`;
}

function headline({ reward, done, model }) {
  const now = latest(reward.streaming), frozen = latest(reward.control);
  if (now === null || frozen === null || frozen <= 0) return;
  const lift = now / frozen - 1;
  byId("said").textContent = model?.taken && lift > .03 ? `Learning as it goes, the model earns ${percent(lift)} beside the same model frozen.`
    : "Half of the people are answered by a model that learns from them, the others by the same model as it was.";
  byId("why").textContent = `Tastes drift, and items are launched every hour and fade. One model is trained on what people do with what it shows them, window by window; the other is what it was at the beginning.${done ? " The demo is over." : ""}`;
}

async function look() {
  try {
    const state = await (await fetch("live.json", { cache: "no-store" })).json();
    byId("clock").textContent = moment(state.now, state.start);
    byId("progress").style.transform = `scaleX(${(state.now - state.start) / (state.end - state.start)})`;
    headline(state);
    scores(state.reward);
    chart(state);
    lately(state.lately ?? []);
    fresh(state);
    test(state.test, state.start);
    if (state.done) return;
  } catch {
    byId("clock").textContent = "The demo has ended";
    return;
  }
  setTimeout(look, EVERY_MS);
}

look();
