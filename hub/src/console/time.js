// Times: UTC on the wire, the town's zone on the screen, always named.

let zone = "Europe/Rome";

export function setZone(name) {
  try {
    new Intl.DateTimeFormat("it", { timeZone: name });
    zone = name;
  } catch { /* an unknown zone leaves the one before */ }
}

export function zoneName() {
  return zone;
}

const cache = new Map();
function format(key, options) {
  const name = `${zone} ${key}`;
  if (!cache.has(name)) cache.set(name, new Intl.DateTimeFormat("it-IT", { timeZone: zone, hourCycle: "h23", ...options }));
  return cache.get(name);
}

const DAY = { weekday: "short", day: "2-digit", month: "2-digit", year: "numeric" };
const TIME = { hour: "2-digit", minute: "2-digit", second: "2-digit" };

export function clock(date) {
  return format("clock", { ...DAY, ...TIME, timeZoneName: "short" }).format(date);
}

export function dayAndTime(text) {
  return format("day", { ...DAY, ...TIME }).format(new Date(text));
}

export function dayAndMinute(text) {
  return format("minute", { ...DAY, hour: "2-digit", minute: "2-digit", timeZoneName: "short" }).format(new Date(text));
}

export function timeOfDay(text) {
  return format("time", TIME).format(new Date(text));
}

// Minutes the zone is ahead of UTC at an instant.
function offsetMinutes(instant) {
  const parts = Object.fromEntries(format("parts", { year: "numeric", month: "2-digit", day: "2-digit", ...TIME })
    .formatToParts(instant).map((part) => [part.type, part.value]));
  const local = Date.UTC(+parts.year, +parts.month - 1, +parts.day, +parts.hour, +parts.minute, +parts.second);
  return Math.round((local - Math.floor(instant.getTime() / 1000) * 1000) / 60000);
}

const two = (number) => String(number).padStart(2, "0");

// What a datetime-local field shows for an instant, in the town's zone.
export function toField(instant) {
  const local = new Date(instant.getTime() + offsetMinutes(instant) * 60000);
  return `${local.getUTCFullYear()}-${two(local.getUTCMonth() + 1)}-${two(local.getUTCDate())}` +
    `T${two(local.getUTCHours())}:${two(local.getUTCMinutes())}:${two(local.getUTCSeconds())}`;
}

// The instant a field means. In the hour that comes twice in autumn, the first.
export function fromField(text) {
  const [date, time] = text.split("T");
  const [year, month, day] = date.split("-").map(Number);
  const [hour, minute, second] = time.split(":").map(Number);
  const local = Date.UTC(year, month - 1, day, hour, minute, second || 0);
  const guess = new Date(local - offsetMinutes(new Date(local)) * 60000);
  const earlier = new Date(local - offsetMinutes(new Date(guess.getTime() - 3 * 3600000)) * 60000);
  const same = (instant) => instant.getTime() + offsetMinutes(instant) * 60000 === local;
  return same(earlier) ? earlier : guess;
}

export function secondsBetween(from, to) {
  return Math.max(0, (new Date(to) - new Date(from)) / 1000);
}
