// What a user did, newest first, a group for each day.

import { byId, called, dated, make, number, plural, words } from "./dom.js";

const dates = new Intl.DateTimeFormat("en", { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const hours = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = 86_400;

const key = event => `${event.item} ${event.time}`;

let older = null; // asks for more events

/** Show events, newest first; `total` there are, `more` asks for more of them, `drop` takes one back that is only tried. */
export function showTimeline(events, total, more, drop) {
  older = more;
  const days = Map.groupBy(events, event => event.tried ? "What if" : dated(dates, event.time));
  const groups = [];
  let later = null;
  for (const [day, done] of days) {
    const pause = later === null ? "" : gap(later - Number(done[0].time));
    if (pause) groups.push(make("p", { className: "gap" }, pause));
    groups.push(make("h3", {}, day), make("ol", {}, done.map(event => row(event, drop))));
    later = Number(done.at(-1).time);
  }
  if (!events.length) groups.push(make("p", { className: "lead" }, "Nothing yet."));
  if (total > events.length && more) {
    groups.push(make("button", { type: "button", id: "older", onclick: async () => { await more(); byId("older")?.focus(); } }, `Show more of ${plural(total, "event")}`));
  }
  byId("timeline").replaceChildren(...groups);
}

function row(event, drop) {
  const tags = event.actions.map(name => make("span", { className: "tag" }, words(name)));
  for (const [name, value] of Object.entries(event.values)) {
    tags.push(make("span", { className: "tag plain" }, `${words(name)} ${number(value)}`));
  }
  const at = event.tried ? make("span", { className: "time" }, "now") : make("span", { className: "time" }, dated(hours, event.time).replace(/^at .*/, "–"));
  const back = event.tried && make("button", { type: "button", className: "back", "aria-label": `Take back: ${called(event)}`, onclick: () => drop(event) }, "×");
  return make("li", { "data-event": key(event), className: event.tried ? "tried" : "" }, at, make("span", { className: "what" }, called(event), " ", tags), back || null);
}

function gap(seconds) {
  if (!(seconds >= 2 * DAY) || seconds > 1e10) return "";
  const days = Math.round(seconds / DAY);
  if (days < 14) return `${days} days between`;
  if (days < 60) return `${Math.round(days / 7)} weeks between`;
  return days < 730 ? `${Math.round(days / 30.4)} months between` : `${Math.round(days / 365)} years between`;
}

const rows = event => byId("timeline").querySelectorAll(`[data-event="${CSS.escape(key(event))}"]`);

/** Mark one event, and bring it into view within the timeline. */
export function mark(event) {
  unmark();
  for (const node of rows(event)) {
    node.classList.add("marked");
    const box = byId("timeline"), inside = node.offsetTop - box.offsetTop;
    if (inside < box.scrollTop || inside + node.offsetHeight > box.scrollTop + box.clientHeight) {
      box.scrollTop = inside - box.clientHeight / 3;
    }
  }
}

export function unmark() {
  for (const node of byId("timeline").querySelectorAll(".marked")) node.classList.remove("marked");
}

/** Go to an event, wherever on the page the timeline is and however far back the event. */
export async function reveal(event) {
  const shown = () => byId("timeline").querySelectorAll("[data-event]").length;
  for (let had = -1; !rows(event).length && byId("older") && shown() > had;) {
    had = shown();
    await older();
  }
  mark(event);
  byId("timeline").querySelector(".marked")?.scrollIntoView({ block: "center" });
}
