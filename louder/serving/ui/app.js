// The page's state and its flow: the address holds the user, the user's history and list follow.

import { get, post } from "./api.js";
import { changes, places, showCards } from "./cards.js";
import { showPair } from "./compare.js";
import { asking, controls } from "./controls.js";
import { byId, called, make, notice, number, plural, say, words } from "./dom.js";
import { footer } from "./footer.js";
import { picker } from "./picker.js";
import { showTimeline } from "./timeline.js";

const STEP = 25; // events of the history that are shown at first, and each time more are asked for
const ONE = "The model's best guesses, best first. Press what they might do with one, such as “like”: it is saved to their history, and the list follows.";
const TWO = "What two models suggest for the same history. What both suggest is marked. Scores compare within one column only.";

let model;
let user = null; // as the service wrote it: a number stays a number
let limit, past, total, answer;
let pending = []; // events that were clicked and are not yet in `past`
let listing = null; // what aborts the list that is on its way
let picked; // shows the user in the field

async function start() {
  try {
    model = await get("v1/model");
  } catch (error) {
    return byId("notices").replaceChildren(notice(error, start));
  }
  byId("notices").replaceChildren();
  byId("window").textContent = plural(model.window, "event");
  byId("compare-label").hidden = !model.previous;
  byId("compare").addEventListener("change", () => { byId("news").replaceChildren(); refreshList(null); });
  byId("skip").addEventListener("click", event => { event.preventDefault(); byId("next").focus(); });
  controls(model, () => { byId("news").replaceChildren(); refreshList(); });
  picked = picker(choose);
  footer(model);
  addEventListener("hashchange", open);
  open();
}

const inAddress = () => new URLSearchParams(location.hash.slice(1)).get("user");

function choose(chosen) {
  const before = location.hash;
  location.hash = `user=${encodeURIComponent(chosen)}`;
  if (location.hash === before) open();
}

async function open() {
  const name = inAddress();
  listing?.abort();
  [user, limit, past, total, answer, pending] = [null, STEP, [], 0, null, []];
  byId("welcome").hidden = name !== null;
  byId("work").hidden = true;
  byId("notices").replaceChildren();
  byId("news").replaceChildren();
  document.title = name === null ? "Louder" : `User ${name} · Louder`;
  picked(name ?? "");
  if (name === null) return;
  const found = await history(name).catch(error => error);
  if (inAddress() !== name) return; // another user was picked meanwhile
  if (found instanceof Error) return byId("notices").replaceChildren(notice(found, open));
  user = found.user;
  byId("work").hidden = false;
  byId("past-title").textContent = `What user ${name} did`;
  byId("timeline").scrollTop = 0;
  byId("lists").replaceChildren(make("p", { className: "lead" }, "Asking the model…"));
  byId("read").textContent = "";
  showPast(found);
  refreshList(null);
}

const history = name => get(`v1/users/${encodeURIComponent(name)}/history?limit=${limit}`);

function showPast(found) {
  if (found) [past, total] = [found.events.reverse(), found.total];
  showTimeline([...pending, ...past], total + pending.length, () => { limit += STEP; return refreshHistory(); });
}

async function refreshHistory() {
  const asker = user, sent = pending.filter(event => event.sent);
  try {
    const found = await history(String(asker));
    if (user !== asker) return;
    if (answer) answer.items = shown(sent); // should the next list be late, they do not come back
    pending = pending.filter(event => !sent.includes(event));
    showPast(found);
  } catch (error) {
    if (user === asker) byId("timeline").prepend(notice(error, refreshHistory));
  }
}

const request = () => ({ user, ...asking() });

/** Items as they are shown: without what was clicked a moment ago. */
function shown(clicked = pending) {
  const done = asking().seen ? [] : clicked.map(event => event.item);
  return answer.items.filter(item => !done.includes(item.item));
}

/** Ask for the list; `before` are the places to compare with, by default those that are shown. Returns its items. */
async function refreshList(before = answer && places(shown())) {
  listing?.abort();
  const { signal } = listing = new AbortController();
  const lists = byId("lists");
  lists.setAttribute("aria-busy", "true");
  try {
    const asked = ["live", ...(byId("compare").checked ? ["previous"] : [])];
    const [live, previous] = await Promise.all(asked.map(which => post("v1/recommend", { ...request(), model: which }, { signal })));
    answer = live;
    byId("lead").textContent = previous ? TWO : ONE;
    byId("read").textContent = `Read from ${plural(live.history, "event")} in ${number(live.milliseconds)} ms.`
      + (live.skipped ? ` ${plural(live.skipped, "event")} left out: the model does not know their items.` : "");
    if (previous) showPair(lists, live, previous);
    else showList(before);
    say(`${plural(live.items.length, "recommendation")} for user ${user}.`);
    return shown();
  } catch (error) {
    if (error.name !== "AbortError") lists.replaceChildren(notice(error, () => refreshList(before)));
  } finally {
    if (listing.signal === signal) lists.removeAttribute("aria-busy");
  }
}

function showList(before) {
  let list = byId("lists").querySelector("ol.cards");
  if (!list) byId("lists").replaceChildren(list = make("ol", { className: "cards" }));
  showCards(list, shown(), before, model, (item, actions) => act(deed(item, actions)), request);
}

// a page that did not come over HTTPS has no randomUUID
const uuid = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("");

const deed = ({ item, title }, actions) =>
  ({ user, id: uuid(), item, title, actions, time: Math.floor(Date.now() / 1000), values: {}, pending: true });

/** What the user did goes into the history at once, then to the service; the same id again is stored once. */
async function act(event) {
  pending.unshift(event);
  showPast();
  showList(null);
  try {
    const { user, id, item, time, actions } = event;
    await post("v1/events", { events: [{ user, id, item, time, actions }] });
  } catch (error) {
    if (event.user !== user) return;
    pending = pending.filter(other => other !== event);
    showPast();
    showList(null);
    return byId("news").replaceChildren(notice(error, () => { byId("news").replaceChildren(); act(event); }));
  }
  if (event.user !== user) return;
  event.sent = true;
  const before = places(shown());
  const [items] = await Promise.all([refreshList(before), refreshHistory()]);
  if (items) byId("news").textContent = `Saved: ${words(event.actions[0] ?? "seen")}, “${called(event)}”. The list followed: ${changes(items, before)}`;
}

start();
