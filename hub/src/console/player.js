// Playing an event: a playback at the hub, its HLS in the browser's own player.

import { get, post, remove } from "./api.js";
import { clock, dayAndMinute, timeOfDay } from "./time.js";
import { gapSentence, sentence } from "./words.js";
import { gapBefore, instant, isSubAlone } from "./axis.js";

const BEFORE_MS = 5000;
const AFTER_MS = 10000;
// A revocation must not stay on the screen for more than 5 s, and for 20 s without the hub.
const ASK_EVERY_MS = 2000;
const ANSWER_MS = 3000;
const ALONE_MS = 14000;
// How long it stays said that something was left out.
const SAID_MS = 6000;
const HLS = "application/vnd.apple.mpegurl";

export class Player {
  constructor(root) {
    this.root = root;
    this.video = root.querySelector("video");
    this.title = root.querySelector("#player-title");
    this.state = root.querySelector("#player-state");
    this.time = root.querySelector("#player-time");
    root.querySelector("#player-close").addEventListener("click", () => this.close());
    this.video.addEventListener("error", () => this.failed());
    this.video.addEventListener("playing", () => this.say(""));
    this.gap = root.querySelector("#player-gap");
    this.video.addEventListener("waiting", () => this.say("Sto caricando…"));
    this.video.addEventListener("timeupdate", () => this.showTime());
  }

  async open(line, hit, reason) {
    await this.close();
    const turn = this.turn = Symbol();
    this.root.hidden = false;
    this.root.scrollIntoView({ block: "nearest" });
    this.title.textContent = `${hit.camera_name} — ${line.organisation}`;
    this.kept = hit.kept_until;
    this.say("Chiedo le immagini…");
    if (!this.video.canPlayType(HLS)) {
      this.say("Questo browser non riproduce HLS: usa Chromium, Chrome o Safari aggiornati.", true);
      return;
    }
    try {
      const from = new Date(new Date(hit.start).getTime() - BEFORE_MS).toISOString();
      const to = new Date(new Date(hit.end).getTime() + AFTER_MS).toISOString();
      const opened = await post("/api/v1/playbacks", {
        organisation: line.organisation_id, camera: hit.camera, from, to, ...reason,
      });
      if (turn !== this.turn) return void remove(`/api/v1/playbacks/${opened.id}`).catch(() => {});
      this.id = opened.id;
      this.watch(turn, opened.id);
      this.sections = opened.sections;
      this.gaps = opened.gaps;
      this.sayGap(gapBefore(opened.sections, opened.gaps, 0));
      // Chromium does not know EXT-X-GAP, and would lose its place on the axis.
      this.video.src = opened.whole;
      await this.video.play().catch(() => turn === this.turn && this.say("Premi ▶ per iniziare."));
    } catch (problem) {
      if (turn === this.turn) this.say(sentence(problem), true);
    }
  }

  // Asks whether it may still be shown. What may not leaves the screen, with the reason.
  async watch(turn, id) {
    let heard = Date.now();
    while (turn === this.turn) {
      await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
      if (turn !== this.turn) return;
      try {
        await get(`/api/v1/playbacks/${id}`, AbortSignal.timeout(ANSWER_MS));
        heard = Date.now();
      } catch (problem) {
        const refused = problem.status >= 400 && problem.status < 500;
        if (turn !== this.turn || (!refused && Date.now() - heard < ALONE_MS)) continue;
        this.blank();
        this.say(sentence(problem), true);
        return;
      }
    }
  }

  // Empties the picture and what was loaded ahead of it.
  blank() {
    this.turn = null;
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this.time.textContent = "";
    this.sections = this.gaps = null;
    this.sayGap(null);
  }

  failed() {
    if (!this.video.getAttribute("src")) return;
    const unsupported = this.video.error && this.video.error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED;
    this.say(unsupported
      ? "Il browser non sa riprodurre questo formato (per esempio H.265), oppure la riproduzione è terminata."
      : "La riproduzione si è interrotta: riaprila dal risultato.", true);
  }

  say(text, bad = false) {
    this.state.textContent = text;
    this.state.className = bad ? "notice bad" : "notice";
    this.state.hidden = !text;
  }

  showTime() {
    if (!this.sections) return;
    const at = instant(this.sections, this.video.currentTime);
    const alone = isSubAlone(this.sections, this.video.currentTime) ? " · registrato solo il flusso secondario" : "";
    this.time.textContent = `${clock(at)}${alone} · conservato fino a ${dayAndMinute(this.kept)}`;
    const gap = gapBefore(this.sections, this.gaps, this.video.currentTime, SAID_MS / 1000);
    if (gap || Date.now() > this.saidUntil) this.sayGap(gap);
  }

  // What was left out just before this instant, with its cause.
  sayGap(gap) {
    this.saidUntil = gap ? Date.now() + SAID_MS : 0;
    this.gap.textContent = gap ? `Dalle ${timeOfDay(gap.start)} alle ${timeOfDay(gap.end)} manca la registrazione: ${gapSentence(gap)}.` : "";
    this.gap.hidden = !gap;
  }

  get isOpen() {
    return !this.root.hidden;
  }

  async close(how) {
    this.blank();
    this.root.hidden = true;
    const id = this.id;
    this.id = null;
    if (id) await remove(`/api/v1/playbacks/${id}`, how).catch(() => {});
  }
}
