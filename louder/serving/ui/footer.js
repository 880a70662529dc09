// Which model answers, and how busy and how fast the service is right now.

import { get } from "./api.js";
import { byId, draw, make, number, plural } from "./dom.js";

const EVERY_MS = 2_000;
const LATELY = 10; // seconds that the rate is taken over

export function footer(model) {
  byId("about").replaceChildren(
    "Model ", make("b", {}, model.name), ` (${model.ranker ? `${model.kind} finds, ${model.ranker} ranks` : model.kind}), version `,
    make("b", {}, model.version), `. ${plural(model.items, "item")} to choose from; it reads the latest ${plural(model.window, "event")}.`,
    model.variants.length ? ` An A/B test runs: ${model.variants.map(({ name, share }) => `${name} (${number(100 * share)}% of the users)`).join(", ")}.` : "",
    model.refused ? ` A newer one was not taken: ${model.refused}` : "");
  let timer = 0;
  async function poll() {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      show(await get("v1/stats", { quiet: true }));
    } catch {
      byId("live").hidden = true;
    }
    timer = setTimeout(poll, EVERY_MS);
  }
  document.addEventListener("visibilitychange", poll);
  poll();
}

function show({ requests, p50_ms, p99_ms, in_flight, cached_histories }) {
  const lately = requests.slice(-LATELY), rate = lately.reduce((sum, count) => sum + count, 0) / Math.max(1, lately.length);
  const figures = [
    ["Half are answered within", `${number(p50_ms)} ms`],
    ["99 of 100 within", `${number(p99_ms)} ms`],
    ["Requests a second", number(rate)],
    ["Being answered now", number(in_flight)],
    ["Histories at hand", number(cached_histories)],
  ];
  byId("figures").replaceChildren(...figures.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const top = Math.max(1, ...requests), step = 240 / Math.max(1, requests.length - 1);
  const points = requests.map((count, at) => `${(at * step).toFixed(1)},${(34 - 32 * count / top).toFixed(1)}`).join(" ");
  byId("spark").replaceChildren(
    draw("polygon", { points: `0,36 ${points} 240,36` }),
    draw("polyline", { points, "vector-effect": "non-scaling-stroke" }));
  byId("spark").setAttribute("aria-label", `At most ${top}, lately ${number(rate)} a second`);
  byId("live").hidden = false;
}
