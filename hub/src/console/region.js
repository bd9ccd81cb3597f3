// Drawing an area of the picture: points in fractions of it.

const SVG = "http://www.w3.org/2000/svg";
const MAX_POINTS = 32;
const STEP = 1 / 32;

export class Region {
  constructor(root, changed) {
    this.drawing = root.querySelector("svg");
    this.picture = root.querySelector("img");
    this.changed = changed;
    this.points = [];
    this.cursor = null;
    this.drawing.addEventListener("pointerdown", (event) => this.touch(event));
    this.drawing.addEventListener("keydown", (event) => this.key(event));
    this.drawing.addEventListener("blur", () => { this.cursor = null; this.draw(); });
  }

  touch(event) {
    const frame = this.drawing.getBoundingClientRect();
    const clamp = (value) => Math.min(1, Math.max(0, value));
    this.add([clamp((event.clientX - frame.left) / frame.width), clamp((event.clientY - frame.top) / frame.height)]);
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) {
      const [x, y] = this.cursor || [0.5, 0.5];
      const [dx, dy] = moves[event.key];
      this.cursor = [Math.min(1, Math.max(0, x + dx * STEP)), Math.min(1, Math.max(0, y + dy * STEP))];
    } else if (event.key === "Enter" && !event.ctrlKey && this.cursor) {
      this.add(this.cursor);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.points.pop();
    } else return;
    event.preventDefault();
    this.draw();
  }

  add(point) {
    if (this.points.length < MAX_POINTS) this.points.push(point.map((value) => Math.round(value * 10000) / 10000));
    this.draw();
  }

  clear() {
    this.points = [];
    this.picture.hidden = true;
    this.picture.removeAttribute("src");
    this.draw();
  }

  // Draws over this picture from now on.
  show(source, name) {
    this.picture.src = source;
    this.picture.alt = name;
    this.picture.hidden = false;
  }

  draw() {
    const scaled = this.points.map(([x, y]) => [x * 1600, y * 900]);
    this.drawing.replaceChildren();
    const shape = (name, attributes) => {
      const made = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      this.drawing.append(made);
    };
    if (scaled.length > 1) shape("polygon", { points: scaled.map((point) => point.join(",")).join(" ") });
    for (const [cx, cy] of scaled) shape("circle", { cx, cy, r: 14 });
    if (this.cursor) shape("circle", { class: "cursor", cx: this.cursor[0] * 1600, cy: this.cursor[1] * 900, r: 24 });
    this.changed(this.points);
  }
}
