// What is told of an item in numbers: how likely it is next, how likely each action, a score. One number stands once.

import { bar, digits, make, number, percent, words } from "./dom.js";

/** [{key, short, name, value, text}] of an item, the most telling first. */
export function measures(item, model) {
  const found = [];
  if (item.next != null) found.push({ key: "next", short: "next", name: "Likely next", value: item.next, text: percent(item.next) });
  const chances = Object.entries(item.actions ?? {}).sort(([a], [b]) => (b === model.main) - (a === model.main));
  for (const [name, chance] of chances) found.push({ key: name, short: words(name), name: likely(name), value: chance, text: percent(chance) });
  const same = found.some(({ value }) => Math.abs(value - item.score) < 1e-9);
  if (!same) found.push({ key: "score", short: "score", name: "Score", value: item.score, text: digits(item.score) });
  return found;
}

const likely = name => /ed$/.test(name) ? `Likely ${words(name)}` : `Would ${words(name)}`;

/** The two that a tile has room for. */
export function brief(item, model) {
  const found = measures(item, model), kept = new Set(["next", model.main, "score"]);
  const own = found.filter(({ key }) => kept.has(key));
  return (own.length ? own : found).slice(0, 2);
}

/** How long the bar of a measure is, 0 to 1: from the lowest to the highest of these items, since what differs little would
 *  look the same from 0 to 1. */
export function scale(items, model) {
  const ends = new Map();
  for (const item of items) {
    const first = brief(item, model).map(({ key }) => key);
    for (const { key, short, value, text } of measures(item, model)) {
      const end = ends.get(key) ?? { short, low: value, high: value, from: text, to: text, told: first.includes(key) };
      if (value <= end.low) [end.low, end.from] = [value, text];
      if (value >= end.high) [end.high, end.to] = [value, text];
      ends.set(key, end);
    }
  }
  const share = ({ key, value }) => {
    const end = ends.get(key);
    return !end || end.high === end.low ? 1 : Math.max(0.03, 0.05 + 0.95 * (value - end.low) / (end.high - end.low));
  };
  const told = [...ends.values()].filter(end => end.told && end.from !== end.to).map(({ short, from, to }) => `${short} ${from} to ${to}`);
  const legend = what => [told.length ? `Bars run from the lowest to the highest of ${what}: ${told.join(", ")}.` : "",
    ends.has("next") ? "“Next” is the chance to come next among those found; the others are chances if it does." : ""].join(" ");
  return { share, legend };
}

export const meters = (found, share, full) => make("ul", { className: full ? "meters full" : "meters" }, found.map(one => make("li", {},
  make("span", { className: "name" }, full ? one.name : one.short), bar(share(one)), make("span", { className: "amount" }, one.text))));

export const expected = item => Object.entries(item.values ?? {}).length
  ? make("p", { className: "expected" }, "Expected: ", Object.entries(item.values).map(([name, value]) => `${words(name)} ${number(value)}`).join(", "))
  : null;
