// Small pieces of the page. Text goes in as text, never as markup.

export const byId = id => document.getElementById(id);

/** make("p", {className: "lead", onclick: f, "aria-label": "…"}, child or text, …) */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else if (value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter(child => child != null && child !== false));
  return node;
}

export function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** A bar of a share between 0 and 1. Its number stands beside it, so it is silent to a screen reader. */
export function bar(share) {
  const fill = make("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return make("span", { className: "bar", "aria-hidden": "true" }, fill);
}

export const percent = share => {
  if (share > 0 && share < 1e-5) return "< 0.001 %";
  return `${share < 0.00995 ? Number((100 * share).toPrecision(2)) : (100 * share).toFixed(share < 0.9949 ? 1 : 2)} %`;
};
export const number = value => value.toLocaleString("en", { maximumSignificantDigits: 3 });
export const digits = value => value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** What an item is called: its title, or its id where the log has none. */
export const called = ({ title, item }) => title || `Item ${item}`;

const LAST = 8.64e12; // seconds that a date of JavaScript can hold; a log may have any
export const dated = (format, seconds) => Math.abs(Number(seconds)) <= LAST ? format.format(Number(seconds) * 1000) : "at no possible time";

const hues = new Map();
/** Give these values colours as far from each other as can be, in this order. */
export const spread = values => values.forEach((value, at) => hues.set(value, (250 + at * 137.508) % 360));

/** A colour of its own for each text: degrees of a hue. */
export function hue(text) {
  if (hues.has(text)) return hues.get(text);
  let hash = 2166136261;
  for (const letter of String(text)) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619);
  return (hash >>> 0) % 360;
}

/** An action's or an attribute's name as people read it: is_click → click */
export const words = name => name.replace(/^is_/, "").replaceAll("_", " ");

/** A problem in one sentence, and a way to try again. */
export function notice(problem, retry) {
  if (problem.status === undefined) console.error(problem); // a mistake of the page, not of the service
  const again = event => {
    event.currentTarget.closest("[tabindex]").focus({ preventScroll: true }); // the button is about to go
    retry();
  };
  return make("p", { className: "notice", role: "alert" }, make("span", {}, problem.message), " ",
    make("button", { type: "button", onclick: again }, "Try again"));
}

/** Say it to those who cannot see the page change. */
export const say = text => { byId("status").textContent = text; };
