// What if: events that a visitor tries on a user. The page alone holds them, until “Save” writes them into the history.

import { now, post, remove } from "./api.js";
import { byId, called, make, notice, plural, say, words } from "./dom.js";

const MOST = 100; // that a request may bring

// a page that did not come over HTTPS has no randomUUID
const uuid = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("");

const all = new Map(); // who -> events, oldest first; they are still there when one comes back
let who = null, user = null, tell = "", changed, saved;
let last = []; // what was saved a moment ago, and may be taken out again

/** `changed` is called after every change, and returns what it did to the list, in words; `saved` after a save. */
export function sandbox(onChange, onSave) {
  [changed, saved] = [onChange, onSave];
  addEventListener("keydown", event => {
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.target.matches("input, select")) return;
    if (!tried().length && !last.length) return;
    event.preventDefault();
    (tried().length ? undo : unsave)();
  });
}

/** From now on it is about this user; null for someone new, whose events cannot be saved. */
export function about(name, id) {
  [who, user, tell, last] = [name, id, "", []];
  show();
}

/** What was tried, oldest first. */
export const tried = () => all.get(who) ?? [];

/** Likewise, as fields of a request. */
export function asked() {
  const events = tried().map(({ item, time, actions }) => ({ item, time, actions }));
  if (user === null) return { history: events };
  return events.length ? { user, what_if: events } : { user };
}

export function attempt({ item, title }, actions) {
  if (tried().length === MOST) return change(tried(), `No more than ${MOST} can be tried at once: save some, or undo.`);
  return change([...tried(), { id: uuid(), item, title, actions, time: now(), values: {}, tried: true }]);
}

export const drop = event => change(tried().filter(other => other !== event));
const undo = () => change(tried().slice(0, -1));

async function change(events, instead) {
  const about = who;
  all.set(who, events);
  [tell, last] = ["", []];
  show();
  const news = instead ?? await changed();
  if (about !== who) return;
  tell = tried().length ? news ?? "" : "";
  if (news) say(news);
  show();
}

const save = () => write("Saving…", save, async (id, events) => {
  await post("v1/events", { events: events.map(({ id: own, item, time, actions }) => ({ user: id, id: own, item, time, actions })) });
  return { left: [], done: events, told: `Saved ${plural(events.length, "event")} into the history.` };
});

/** Take what was saved out of the history again; it is tried once more, under new ids, since deleted ones stay deleted. */
const unsave = () => write("Taking it out…", unsave, async (id, _, events) => {
  for (const event of events) await remove(`v1/users/${encodeURIComponent(id)}/events/${event.id}`);
  return { left: events.map(event => ({ ...event, id: uuid() })), done: [], told: "Taken out of the history again." };
});

/** Change the stored history. `work(user, tried, saved)` gives what is `left` to be tried, and what is `done`. */
async function write(busy, again, work) {
  const [name, id, events, before] = [who, user, tried(), last];
  show(busy);
  try {
    const { left, done, told } = await work(id, events, before);
    all.set(name, [...left, ...all.get(name).filter(event => !events.includes(event))]);
    if (name !== who) return;
    await saved();
    [tell, last] = [told, done];
    say(told);
    show();
  } catch (error) {
    if (name !== who) return;
    show();
    byId("sandbox").prepend(notice(error, again));
  }
}

function show(busy) {
  const bar = byId("sandbox"), events = tried();
  bar.hidden = !events.length && !tell;
  document.body.classList.toggle("trying", !bar.hidden);
  if (bar.hidden) return bar.replaceChildren();
  const held = bar.contains(document.activeElement) && document.activeElement.dataset.do;
  const button = (name, text, press, className = "") => make("button", { type: "button", className, "data-do": name, disabled: Boolean(busy), onclick: press }, text);
  const chip = event => make("li", {}, make("span", {}, `${words(event.actions[0] ?? "seen")} `, make("b", {}, called(event))),
    make("button", { type: "button", "aria-label": `Take back: ${called(event)}`, onclick: () => drop(event) }, "×"));
  bar.replaceChildren(...(events.length ? [
    make("div", { className: "trying-what" }, make("strong", {}, "What if"), make("ul", {}, events.toReversed().map(chip)),
      make("span", { className: "news" }, busy ?? tell)),
    make("div", { className: "trying-do" }, button("undo", "Undo", undo), events.length > 1 ? button("clear", "Undo all", () => change([])) : null,
      user === null ? make("small", {}, "Nothing of this is stored.") : button("save", "Save to the history", save, "main")),
  ] : [make("div", { className: "trying-what" }, make("span", { className: "news" }, busy ?? tell)),
    make("div", { className: "trying-do" }, last.length ? button("unsave", "Undo", unsave) : null, button("close", "Close", () => { tell = ""; show(); }))]));
  if (held) (bar.querySelector(`[data-do="${held}"]`) ?? bar.querySelector("button"))?.focus({ preventScroll: true });
}
