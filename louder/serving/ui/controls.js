// What the list is asked for: how many, how different, which actions count, which items may be in it.

import { byId, make, number, words } from "./dom.js";

const CHIPS = 40; // values of one attribute that are shown at once

let wanted = {};

/** What the list is asked for now, as fields of a request. */
export const asking = () => ({ ...wanted });

/** How the score comes of two stages. */
const rule = ({ next_weight: weight }) => weight == null ? "" : ` The score is the chance to come next${weight === 1 ? "" : ` to the power of ${number(weight)}`}, times the worth.`;

/** Fill the panel for this model; `changed` is called after every change. */
export function controls(model, changed) {
  const form = byId("controls").querySelector("form");
  wanted = { k: 10, diversity: 0, seen: model.seen, weights: {}, where: {} };
  const usual = Object.fromEntries(model.actions.map(name => [name, name === model.main ? 1 : 0]));

  const count = make("select", { id: "k", onchange: () => { wanted.k = Number(count.value); changed(); } },
    [5, 10, 20, 50].map(k => make("option", { value: k, selected: k === 10 }, k)));
  const seen = make("input", { type: "checkbox", checked: model.seen, onchange: () => { wanted.seen = seen.checked; changed(); } });
  const parts = [
    make("div", { className: "fields" },
      make("label", { className: "field" }, "How many", count),
      slider("Variety", 0, 1, 0, "diversity", value => { wanted.diversity = value; }),
      make("label", { className: "check" }, seen, "Also what they already know")),
  ];
  if (model.ranker && model.actions.length) {
    parts.push(make("fieldset", {}, make("legend", {}, "What counts"),
      make("p", { className: "lead" }, "How much the chance of each action adds to what an item is worth. Below zero it takes away.", rule(model)),
      make("div", { className: "fields" }, model.actions.map(name => slider(words(name), -1, 1, usual[name], `weight-${name}`,
        value => { wanted.weights = { ...usual, ...wanted.weights, [name]: value }; })))));
  }
  for (const [name, values] of Object.entries(model.attributes)) if (values.length) parts.push(filter(name, values));
  form.replaceChildren(...parts, make("button", { type: "button", id: "usual", onclick: usualAgain }, "Back to the usual"));
  form.onsubmit = event => event.preventDefault();

  function usualAgain() {
    controls(model, changed);
    byId("usual").focus();
    changed();
  }

  function slider(name, min, max, value, id, set) {
    const shown = make("span", { className: "now", "aria-hidden": "true" }, value.toFixed(2));
    const input = make("input", {
      type: "range", id, min, max, step: 0.05, value, "aria-label": name,
      oninput: () => { shown.textContent = Number(input.value).toFixed(2); },
      onchange: () => { set(Number(input.value)); changed(); },
    });
    return make("label", { className: "field" }, make("span", {}, name, " ", shown), input);
  }

  function filter(name, values) {
    const chosen = new Set(), box = make("div", { className: "chips" });
    const find = make("input", { type: "search", placeholder: "Find a value", "aria-label": `Find in ${words(name)}`, oninput: fill });
    function fill() {
      const text = find.value.toLowerCase();
      const fitting = values.filter(value => chosen.has(value) || value.toLowerCase().includes(text)).slice(0, CHIPS + chosen.size);
      box.replaceChildren(...fitting.map(chip));
    }
    function chip(value) {
      const input = make("input", { type: "checkbox", checked: chosen.has(value), onchange: () => {
        input.checked ? chosen.add(value) : chosen.delete(value);
        const { [name]: _, ...others } = wanted.where;
        wanted.where = chosen.size ? { ...others, [name]: [...chosen] } : others;
        changed();
      } });
      return make("label", { className: "chip" }, input, make("span", {}, value));
    }
    fill();
    return make("fieldset", {}, make("legend", {}, `Filter by ${words(name)}`), values.length > CHIPS ? find : null, box);
  }
}
