// What was found: one line a town, one card an event, newest first as they come.

import { sentence } from "./words.js";
import { dayAndTime, dayAndMinute, secondsBetween } from "./time.js";

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Results {
  constructor({ towns, hits, empty, play, background }) {
    Object.assign(this, { towns, hits, empty, play, background });
  }

  start(request) {
    this.request = request;
    this.towns.replaceChildren();
    this.hits.replaceChildren();
    this.empty.hidden = true;
    this.known = new Map();
    this.count = 0;
  }

  town(line) {
    if (!this.known.has(line.organisation_id)) {
      const item = element("li");
      item.append(element("b", "", line.organisation), element("span", "", "cerca…"));
      this.towns.append(item);
      this.known.set(line.organisation_id, item);
    }
    return this.known.get(line.organisation_id);
  }

  take(line) {
    if (line.kind === "hits") {
      this.town(line);
      for (const hit of line.hits) this.insert(line, hit);
    } else if (line.kind === "done") {
      const item = this.town(line);
      item.className = "done";
      const found = line.count === 1 ? "1 evento" : `${line.count} eventi`;
      const more = line.truncated ? ", ce ne sono altri: restringi" : "";
      item.lastChild.textContent = `✓ ${found} in ${line.latency_ms} ms${more}`;
    } else if (line.kind === "failed") {
      const item = this.town(line);
      item.className = "failed";
      item.lastChild.textContent = `✗ ${sentence(line)} (${line.latency_ms} ms)`;
    } else if (line.kind === "end") {
      if (this.count === 0) this.say("Nessun evento trovato. Prova un intervallo più lungo, meno parole o una zona più grande.");
    }
  }

  say(text) {
    this.empty.textContent = text;
    this.empty.hidden = false;
  }

  insert(line, hit) {
    this.count += 1;
    const card = this.card(line, hit);
    card.dataset.start = hit.start;
    let before = this.hits.firstElementChild;
    while (before && before.dataset.start >= hit.start) before = before.nextElementSibling;
    this.hits.insertBefore(card, before);
  }

  card(line, hit) {
    const card = element("li");
    const picture = element("button", "picture");
    picture.type = "button";
    picture.setAttribute("aria-label", `Riproduci ${hit.camera_name}, ${dayAndTime(hit.start)}`);
    picture.addEventListener("click", () => this.choose(card, line, hit));
    const told = element("div", "told");
    const length = Math.round(secondsBetween(hit.start, hit.end));
    told.append(
      element("span", "town", line.organisation),
      element("span", "when", dayAndTime(hit.start)),
      element("span", "", hit.camera_name || "telecamera senza nome"),
      element("span", "hint", [hit.site, hit.address].filter(Boolean).join(", ")),
      element("span", "hint", (hit.ongoing ? "in corso, " : "") + (length === 1 ? "1 secondo" : `${length} secondi`) +
        (hit.labels.length ? " · " + hit.labels.map((label) => label.name).join(", ") : "")),
      element("span", "kept", `conservato fino a ${dayAndMinute(hit.kept_until)}`),
    );
    const acts = element("div", "acts");
    const play = element("button", "", "Riproduci");
    play.type = "button";
    play.addEventListener("click", () => this.choose(card, line, hit));
    acts.append(play);
    card.append(picture, told, acts);
    if (hit.has_thumbnail) this.showPicture(picture, acts, line, hit);
    else picture.append(element("span", "none", "senza immagine"));
    return card;
  }

  showPicture(frame, acts, line, hit) {
    const image = new Image();
    image.loading = "lazy";
    image.alt = "";
    image.src = `/api/v1/thumbnails/${line.organisation_id}/${hit.event}?request=${this.request}`;
    image.addEventListener("error", () => frame.replaceChildren(element("span", "none", "immagine non disponibile")));
    image.addEventListener("load", () => {
      const [left, top, right, bottom] = hit.box.map((value) => value / 100);
      const box = element("span", "where");
      Object.assign(box.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
      if (right > left && bottom > top) frame.append(box);
    });
    frame.append(image);
    const use = element("button", "", "Usa come sfondo");
    use.type = "button";
    use.addEventListener("click", () => this.background(image.src, hit));
    acts.append(use);
  }

  choose(card, line, hit) {
    for (const other of this.hits.querySelectorAll(".chosen")) other.classList.remove("chosen");
    card.classList.add("chosen");
    this.play(line, hit);
  }
}
