// The page's state and its flow: the address says what is shown, the history and the list of a user follow.

import { Problem, get, post } from "./api.js";
import { change, changes, places, showCards } from "./cards.js";
import { showPair } from "./compare.js";
import { asking, controls } from "./controls.js";
import { byId, called, dated, make, notice, number, plural, say, spread } from "./dom.js";
import { footer } from "./footer.js";
import { avatar, showHome, showItem } from "./home.js";
import { scale } from "./measures.js";
import { picker } from "./picker.js";
import { showRows } from "./rows.js";
import { about, asked, attempt, drop, sandbox, tried } from "./sandbox.js";
import { waiting } from "./tiles.js";
import { showTimeline } from "./timeline.js";

const STEP = 50; // events of the history that are shown at first, and each time more are asked for
const MOST = 1000; // of them that the service gives
const PLENTY = 100; // items that strips are made of
const WATCHED = 10; // first items of which is told what moved
const VIEWS = { rows: "Rows", list: "List", compare: "Compare" };
const TOLD = {
  list: "The model’s best guesses, best first.",
  compare: "What two models suggest for the same history. Scores compare within one column only.",
};

let model;
let subject = null; // what is shown: the address without the view
let view = "rows", limit, past, total, answer;
let visit = new AbortController(); // ends what is on its way when another subject is opened
let listing = null; // what aborts the list that is on its way
let picked; // shows in the field what is open

async function start() {
  try {
    model = await get("v1/model");
  } catch (error) {
    return byId("notices").replaceChildren(notice(error, start));
  }
  byId("notices").replaceChildren();
  spread(Object.values(model.attributes)[0] ?? []);
  byId("skip").addEventListener("click", event => { event.preventDefault(); (byId("work").hidden ? byId("welcome") : byId("next")).focus(); });
  controls(model, () => refreshList());
  sandbox(follow, async () => { await refreshHistory(); await refreshList(); });
  picked = picker((kind, id) => go({ [kind]: id }));
  footer(model);
  addEventListener("hashchange", open);
  open();
}

/** What the address says: {kind, name, view}. */
function address() {
  const said = new URLSearchParams(location.hash.slice(1));
  const kind = ["user", "item", "new"].find(one => said.has(one)) ?? "home";
  const wanted = said.get("view") in VIEWS ? said.get("view") : "rows";
  return { kind, name: said.get(kind) ?? "", with: said.get("with"), view: wanted === "compare" && !model.previous ? "rows" : wanted };
}

function go(where) {
  const said = new URLSearchParams(where).toString(), before = location.hash;
  location.hash = said;
  if (location.hash === before) open(true);
}

async function open(anew) {
  const at = address(), asker = `${at.kind} ${at.name}`;
  if (subject === asker && anew !== true) {
    if (view !== at.view) showView(at.view);
    return;
  }
  visit.abort();
  listing?.abort();
  visit = new AbortController();
  const { signal } = visit;
  [subject, view, limit, past, total, answer] = [asker, at.view, STEP, [], 0, null];
  clear(at);
  try {
    if (at.kind === "home") return showHome(model, signal);
    if (at.kind === "item") return await showItem(at.name, model, signal);
    const found = at.kind === "new" ? { user: null, events: [], total: 0 } : await get(historyOf(at.name), { signal });
    if (signal.aborted) return;
    if (at.kind === "user" && String(found.user) !== at.name) throw new Problem(`The service answered for user ${found.user}, not for ${at.name}.`);
    about(asker, found.user);
    showWho(at, found);
    showPast(found);
    if (at.with !== null && !tried().length) return await begin(at.with);
    await refreshList(null);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    byId("work").hidden = true; // half of a page would be somebody else's
    byId("welcome").replaceChildren();
    byId("notices").replaceChildren(notice(error, () => open(true)));
  }
}

/** Nothing of what was shown before is left when something else is asked for. */
function clear(at) {
  const works = at.kind === "user" || at.kind === "new";
  byId("welcome").hidden = works;
  byId("work").hidden = !works;
  for (const name of ["notices", "welcome", "who", "timeline", "lists"]) byId(name).replaceChildren();
  for (const name of ["read", "lead", "past-lead"]) byId(name).textContent = "";
  for (const name of ["popular", "short"]) byId(name).hidden = true;
  about(null, null);
  picked(at.kind === "user" ? at.name : "");
  document.title = at.kind === "user" ? `User ${at.name} · Louder` : at.kind === "new" ? "Someone new · Louder" : "Louder";
  scrollTo(0, 0);
  if (!works) return;
  showViews();
  byId("who").replaceChildren(avatar(at.name || "?"), make("div", {}, make("h2", { id: "next-title" }, at.kind === "new" ? "Someone new" : `User ${at.name}`), make("p", { className: "meta" }, "…")));
  byId("lists").replaceChildren(waiting("Asking the model…"), waiting(" "));
  byId("timeline").replaceChildren(...Array.from({ length: 8 }, () => make("p", { className: "line blank", "aria-hidden": "true" })));
}

function showViews() {
  byId("work").dataset.view = view;
  const names = Object.keys(VIEWS).filter(name => name !== "compare" || model.previous);
  byId("views").replaceChildren(...names.map(name => make("button", {
    type: "button", "aria-pressed": String(name === view), onclick: () => {
      const said = new URLSearchParams(location.hash.slice(1));
      said.set("view", name);
      history.replaceState(null, "", `#${said}`);
      showView(name);
    },
  }, VIEWS[name])));
}

function showView(name) {
  const held = byId("views").contains(document.activeElement);
  view = name;
  showViews();
  if (held) byId("views").querySelector("[aria-pressed=true]").focus();
  byId("lists").replaceChildren(waiting("Asking the model…"));
  refreshList(null);
}

const days = new Intl.DateTimeFormat("en", { day: "numeric", month: "long", year: "numeric" });

function showWho(at, found) {
  const last = found.events.at(-1);
  const told = at.kind === "new" ? "Nothing of this is stored." : last ? `${plural(found.total, "event")}, the latest ${dated(days, last.time)}` : "No events yet";
  byId("who").querySelector(".meta").textContent = told;
}

const historyOf = name => `v1/users/${encodeURIComponent(name)}/history?limit=${Math.min(limit, MOST)}`;

function showPast(found) {
  if (found) [past, total] = [found.events.toReversed(), found.total];
  const more = past.length < Math.min(total, MOST) ? () => { limit += STEP; return refreshHistory(); } : null;
  byId("past-lead").textContent = total || tried().length ? `Newest first. The model reads the latest ${plural(model.window, "event")}.` : "";
  showTimeline([...tried().toReversed(), ...past], total + tried().length, more, drop);
}

async function refreshHistory() {
  const { signal } = visit;
  if (address().kind === "new") return showPast();
  try {
    const found = await get(historyOf(address().name), { signal });
    if (!signal.aborted) { showWho(address(), found); showPast(found); }
  } catch (error) {
    if (!signal.aborted) byId("timeline").prepend(notice(error, refreshHistory));
  }
}

/** Someone new begins with an item. */
async function begin(name) {
  const { item } = await get(`v1/items/${encodeURIComponent(name)}/users?limit=1`, { signal: visit.signal });
  await attempt(item, model.main ? [model.main] : []);
}

const request = which => ({ ...asked(), ...asking(), ...(view === "rows" && { k: PLENTY }), model: which });

/** Items as they are shown: without what was tried a moment ago. */
function shown() {
  const done = asking().seen ? [] : tried().map(event => event.item);
  return answer.items.filter(item => !done.includes(item.item));
}

/** After a change of the sandbox: what it does to the list, in words. */
async function follow() {
  const before = answer && places(answer.items.slice(0, WATCHED));
  showPast();
  if (answer && view === "list") showAnswer(null); // at once, before the service is heard
  const items = await refreshList(before);
  return items && before ? changes(items.slice(0, WATCHED), before) : "";
}

/** Ask for the list; `before` are the places to compare with, if any. Returns its items. */
async function refreshList(before = null) {
  listing?.abort();
  const { signal } = listing = new AbortController();
  const lists = byId("lists"), asker = subject;
  lists.setAttribute("aria-busy", "true");
  try {
    const wanted = view === "compare" ? ["live", "previous"] : ["live"];
    const [live, previous] = await Promise.all(wanted.map(which => post("v1/recommend", request(which), { signal })));
    if (asker !== subject) return;
    answer = live;
    const variant = model.variants.find(({ name }) => name === live.variant);
    byId("read").textContent = `${variant ? `${variant.name}: ${variant.run}` : model.name}, version ${live.model}: read from ${plural(live.history, "event")} in ${number(live.milliseconds)} ms.`
      + (live.skipped ? ` ${plural(live.skipped, "event")} left out, whose items the model does not know.` : "");
    startsFrom(live);
    endsEarly(live, previous);
    if (previous) {
      byId("lead").textContent = TOLD.compare;
      showPair(lists, live, previous, [desk("live", signal), desk("previous", signal)]);
    } else showAnswer(before);
    say(`${plural(live.items.length, "recommendation")}.`);
    return shown();
  } catch (error) {
    if (error.name === "AbortError" || asker !== subject) return;
    byId("lead").textContent = "";
    byId("short").hidden = true;
    lists.replaceChildren(notice(error, () => refreshList(before)));
  } finally {
    if (listing.signal === signal) lists.removeAttribute("aria-busy");
  }
}

const desk = (which, signal, share) => ({ model, share, signal, request: () => request(which), act: attempt });

function showAnswer(before) {
  const lists = byId("lists"), items = shown(), { share, legend } = scale(items, model);
  const own = desk("live", listing.signal, share), moved = (item, place) => change(item, place, before);
  byId("lead").textContent = [TOLD[view], items.length ? legend(view === "rows" ? `these ${items.length} guesses` : "this list") : ""].filter(Boolean).join(" ");
  if (view === "rows") return showRows(lists, items, own, moved, causes());
  let list = lists.querySelector("ol.cards");
  if (!list) lists.replaceChildren(list = make("ol", { className: "cards" }));
  showCards(list, items, own, moved);
}

/** Past events that may have a strip of their own: what was tried, then what they did the main action with, the latest first. */
function causes() {
  const done = [...tried().toReversed(), ...past], liked = done.filter(event => !model.main || event.actions.includes(model.main) || event.tried);
  return [...new Map((liked.length ? liked : done).map(event => [event.item, event])).values()];
}

/** Of whom nothing is known, the list starts from what is popular. */
function startsFrom(live) {
  const note = byId("popular");
  note.hidden = live.history > 0;
  note.textContent = live.skipped
    ? "The model knows no item of this history, so the list starts from what is popular."
    : "Nothing is known of them yet, so the list starts from what is popular. Press + on something, or open it and say what they might do with it: the list follows at once.";
}

/** Why there are fewer than were asked for: of both models, where they are not short for the same reason. */
function endsEarly(live, previous) {
  const note = byId("short"), why = answer => answer?.short ? `Why there are no more: ${answer.short}` : "";
  const other = previous && previous.short !== live.short ? why(previous) : "";
  note.textContent = [why(live), other && `Previous model. ${other}`].filter(Boolean).join(" ");
  note.hidden = !note.textContent;
}

start();
