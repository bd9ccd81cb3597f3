// The player's clock and the world's: between two sections time was left out.

// The section that plays at `seconds` of the player.
function sectionAt(sections, seconds) {
  return sections.findLast((section) => section.at <= seconds + 0.001) || sections[0];
}

// What time it was.
export function instant(sections, seconds) {
  const section = sectionAt(sections, seconds);
  return new Date(new Date(section.start).getTime() + (seconds - section.at) * 1000);
}

// Whether only the smaller pictures were recorded then.
export function isSubAlone(sections, seconds) {
  return !sectionAt(sections, seconds).streams.includes("main");
}

// The last gap that ended when the section began that plays now, for as long as it is worth saying.
export function gapBefore(sections, gaps, seconds, worth = Infinity) {
  const section = sectionAt(sections, seconds);
  if (!section || seconds - section.at > worth) return null;
  const before = sections[sections.indexOf(section) - 1];
  const start = new Date(section.start).getTime();
  const from = before ? new Date(before.end).getTime() : -Infinity;
  const near = 1000;
  const between = (gap) => new Date(gap.start).getTime() >= from - near && new Date(gap.end).getTime() <= start + near;
  const left = gaps.filter(between);
  if (!left.length) return null;
  const longest = left.reduce((a, b) => new Date(b.end) - new Date(b.start) > new Date(a.end) - new Date(a.start) ? b : a);
  return { ...longest, start: left[0].start, end: left[left.length - 1].end };
}
