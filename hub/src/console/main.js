// The page: signing in, searching, showing, playing.

import { get, post, postLines, remove } from "./api.js";
import { PURPOSES, sentence } from "./words.js";
import { clock, fromField, setZone, toField, zoneName } from "./time.js";
import { Region } from "./region.js";
import { Results } from "./results.js";
import { Player } from "./player.js";

const $ = (id) => document.getElementById(id);
const form = $("search-form");
const player = new Player($("player"));
const region = new Region($("region"), (points) => {
  $("region-clear").disabled = points.length === 0 && $("region-picture").hidden;
  $("region-state").textContent = points.length < 3 ? (points.length ? "servono almeno 3 vertici" : "tutta") : `${points.length} vertici`;
});
const results = new Results({
  towns: $("towns"), hits: $("hits"), empty: $("empty"),
  play: (line, hit) => player.open(line, hit, reason()),
  background: (source, hit) => {
    region.show(source, hit.camera_name);
    region.draw();
    $("region").scrollIntoView({ block: "center" });
  },
});
let running = null;

function reason() {
  return { purpose: form.purpose.value, case_number: form.case_number.value.trim() };
}

function complain(where, problem) {
  where.textContent = typeof problem === "string" ? problem : sentence(problem);
  where.hidden = false;
  if (problem.status === 401 && problem.code === "NOT_SIGNED_IN") showSignIn();
}

function tick() {
  $("clock").textContent = clock(new Date());
}

function lastMinutes(minutes) {
  const now = new Date();
  form.to.value = toField(now);
  form.from.value = toField(new Date(now.getTime() - minutes * 60000));
}

function showSignIn() {
  player.close();
  $("work").hidden = true;
  $("sign-out").hidden = true;
  $("who").hidden = true;
  $("sign-in").hidden = false;
  const empty = $("sign-in-form").user.value ? "password" : "user";
  $("sign-in-form")[empty].focus();
}

async function showWork() {
  const session = await get("/api/v1/session");
  setZone(session.time_zone);
  $("zone").textContent = `(ora di ${zoneName()})`;
  $("who").textContent = session.name;
  for (const id of ["who", "sign-out", "work"]) $(id).hidden = false;
  $("sign-in").hidden = true;
  if (!form.from.value) lastMinutes(60);
  tick();
  form.purpose.focus();
  await loadCameras();
}

async function loadCameras() {
  const { cameras } = await get("/api/v1/cameras");
  const towns = new Map();
  for (const camera of cameras) {
    if (!towns.has(camera.organisation)) towns.set(camera.organisation, []);
    towns.get(camera.organisation).push(camera);
  }
  const list = $("cameras");
  list.replaceChildren();
  for (const [town, own] of towns) {
    const heading = document.createElement("h3");
    heading.textContent = town;
    list.append(heading);
    for (const camera of own) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = camera.id;
      label.append(box, [camera.name || camera.id, camera.site].filter(Boolean).join(" · "));
      list.append(label);
    }
  }
  if (!cameras.length) list.textContent = "Nessuna telecamera ancora.";
}

function chosenCameras() {
  return [...$("cameras").querySelectorAll("input:checked")].map((box) => box.value);
}

async function search() {
  running?.abort();
  const turn = running = new AbortController();
  $("search-problem").hidden = true;
  if (region.points.length > 0 && region.points.length < 3) {
    return complain($("search-problem"), "La zona ha bisogno di almeno 3 vertici, oppure toglila.");
  }
  const body = {
    from: fromField(form.from.value).toISOString(), to: fromField(form.to.value).toISOString(),
    words: form.words.value, site: form.site.value, cameras: chosenCameras(), region: region.points,
    partners: true, ...reason(),
  };
  const button = form.querySelector(".main");
  button.disabled = true;
  $("search-stop").hidden = false;
  try {
    const take = (line) => { if (turn === running) results.take(line); };
    await postLines("/api/v1/searches", body, (request) => results.start(request), take, turn.signal);
    if (turn === running && results.count) $("results").focus({ preventScroll: false });
  } catch (problem) {
    if (problem.name !== "AbortError") complain($("search-problem"), problem);
    if (!results.count) results.say("La ricerca non è stata completata.");
  } finally {
    if (turn === running) {
      button.disabled = false;
      $("search-stop").hidden = true;
    }
  }
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = event.target;
  $("sign-in-problem").hidden = true;
  try {
    await post("/api/v1/session", { user: fields.user.value, password: fields.password.value });
    fields.password.value = "";
    await showWork();
  } catch (problem) {
    $("sign-in-problem").textContent = sentence(problem);
    $("sign-in-problem").hidden = false;
    fields.password.select();
  }
});
$("sign-out").addEventListener("click", async () => {
  await player.close();
  await remove("/api/v1/session").catch(() => {});
  // Nothing that was seen stays on the screen of the next person.
  location.reload();
});
form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
form.querySelector(".quick").addEventListener("click", (event) => {
  if (event.target.dataset.minutes) lastMinutes(+event.target.dataset.minutes);
});
$("search-stop").addEventListener("click", () => running?.abort());
$("region-clear").addEventListener("click", () => region.clear());
$("cameras").addEventListener("change", () => {
  const count = chosenCameras().length;
  $("camera-count").textContent = count ? String(count) : "tutte";
});
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey && !$("work").hidden) form.requestSubmit();
  if (event.key === "Escape" && player.isOpen) player.close();
});
addEventListener("pagehide", () => { player.close({ keepalive: true }); });

for (const [value, name] of [["", "— scegli —"], ...PURPOSES]) form.purpose.append(new Option(name, value));
setInterval(tick, 1000);
tick();
region.draw();
try {
  const organisation = await get("/api/v1/organisation");
  $("town").textContent = organisation.name;
  document.title = `Campanile — ${organisation.name}`;
} catch { /* the sign-in says it if the hub is away */ }
showWork().catch(showSignIn);
