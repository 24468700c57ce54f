// The page without a script is whole; with it, what is new appears by itself, and times are told as people tell them.
"use strict";

const LATE = 180; // seconds without a look after which something is wrong: the loop looks every 60 s at least
const live = document.getElementById("live");
const main = document.querySelector("main");
const served = new Map(); // part -> its markup as it was served: what is shown has been changed below
let state = main.dataset.state;
let stream = null;
let fetching = false;
let again = false;
let lost = false;

// ---------------------------------------------------------------------------------------------------------- times

function spoken(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86400)} days`;
}

function tick() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time")) {
    const at = Date.parse(time.dateTime);
    const away = (now - at) / 1000;
    if (!time.title) time.title = new Date(at).toLocaleString();
    if (time.dataset.says === "ago") time.textContent = away < 1 ? "just now" : `${spoken(away)} ago`;
    if (time.dataset.says === "for") time.textContent = `for ${spoken(away)}`;
    if (time.dataset.says === "left") time.textContent = away < 0 ? `${new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}, ${spoken(-away)} left` : "now";
  }
  const looked = live.querySelector("time");
  const late = looked && (now - Date.parse(looked.dateTime)) / 1000 > LATE;
  live.dataset.state = lost || late ? "lost" : stream ? "live" : "";
}

// ---------------------------------------------------------------------------------------------------------- parts

function dress(part) {
  for (const button of part.querySelectorAll(".copy")) button.hidden = !navigator.clipboard;
}

function put(part, fresh) {
  const open = new Set([...part.querySelectorAll("details[open]")].map((details) => details.id));
  const focused = part.contains(document.activeElement) ? path(document.activeElement, part) : null;
  part.innerHTML = fresh;
  for (const details of part.querySelectorAll("details")) if (open.has(details.id)) details.open = true;
  dress(part);
  if (focused) part.querySelectorAll(focused.what)[focused.which]?.focus({ preventScroll: true });
}

function path(element, part) {
  const what = element.tagName.toLowerCase();
  return { what, which: [...part.querySelectorAll(what)].indexOf(element) };
}

async function load() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const answer = await fetch("/", { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of found.querySelectorAll("[data-part]")) {
      const part = document.querySelector(`[data-part="${fresh.dataset.part}"]`);
      if (part && served.get(fresh.dataset.part) !== fresh.innerHTML) {
        served.set(fresh.dataset.part, fresh.innerHTML);
        put(part, fresh.innerHTML);
      }
    }
    const there = found.querySelector("main").dataset;
    if (there.version !== main.dataset.version) location.reload();
    if (document.title !== found.title) document.getElementById("said").textContent = found.title;
    document.title = found.title;
    state = there.state;
    tick();
  } catch {
    // The stream says that nobody answers.
  } finally {
    fetching = false;
    if (again) {
      again = false;
      load();
    }
  }
}

// --------------------------------------------------------------------------------------------------------- stream

function follow() {
  if (stream || document.hidden) return;
  stream = new EventSource("/events");
  stream.onmessage = (message) => {
    const hint = JSON.parse(message.data);
    say(false);
    if (hint.state !== state) load();
    else live.querySelector("time").dateTime = new Date(hint.at * 1000).toISOString();
    tick();
  };
  stream.onerror = () => {
    say(true);
    if (stream?.readyState !== EventSource.CLOSED) return;
    rest(); // it was refused, and a browser does not try again by itself
    setTimeout(follow, 5000);
  };
}

function say(isLost) {
  lost = isLost;
  const words = isLost ? "The watch does not answer. This is what it said last:" : "";
  const place = document.getElementById("lost");
  if (place.textContent !== words) place.textContent = words;
  tick();
}

function rest() {
  stream?.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

for (const part of document.querySelectorAll("[data-part]")) {
  served.set(part.dataset.part, part.innerHTML);
  dress(part);
}
tick();
setInterval(tick, 1000);
follow();
