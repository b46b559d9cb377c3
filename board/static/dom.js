// Elements and words. Whatever comes from elsewhere becomes text (textContent), never markup; the page's
// Content-Security-Policy (require-trusted-types-for) refuses anything else.

const SVG = "http://www.w3.org/2000/svg";

const LONGEST = 120, TAIL = 24; // as in millrace/runtime/shorten.py

/** An id or a key of other people: its beginning and its end, when it is long. */
export const shortened = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - TAIL - 1)}…${text.slice(-TAIL)}` : text);

/** A text in which each long word is shortened; what is no text stays. */
const readable = (child) => (typeof child === "string" ? child.replace(/\S{121,}/g, shortened) : child);

/** An element with attributes and children; null children are left out, others become text. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(readable));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Changes the text only when it is another one: a reader's selection and a screen reader's place stay. */
export function say(element, wanted) {
  const text = readable(wanted);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Shows `children` in `element`, and touches only what differs from what is there: a board comes every second, and focus,
 * selection and a click that is half done stay. So whatever a control does has to be in its attributes, and who listens,
 * listens on what is around it: an element that looks the same is kept.
 */
export function draw(element, ...children) {
  const wanted = children.flat().filter((child) => child !== null && child !== undefined).map(readable);
  wanted.forEach((child, index) => {
    const node = typeof child === "string" ? document.createTextNode(child) : child;
    const old = element.childNodes[index];
    if (!old) element.append(node);
    else if (!old.isEqualNode(node)) change(old, node);
  });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
}

function change(old, node) {
  if (old.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) old.data = node.data;
  else if (old.nodeType === Node.ELEMENT_NODE && node.nodeType === Node.ELEMENT_NODE && old.cloneNode(false).isEqualNode(node.cloneNode(false))) draw(old, ...node.childNodes);
  else old.replaceWith(node);
}

export const STATES = {
  UP_TO_DATE: ["up to date", "calm"],
  WARMING_UP: ["warming up", "blind"],
  CATCHING_UP: ["catching up", "busy"],
  REBALANCING: ["rebalancing", "busy"],
  MOVED_BACK: ["moved back", "warn"],
  FALLING_BEHIND: ["falling behind", "warn"],
  AHEAD: ["ahead", "warn"],
  NOT_STARTED: ["not started", "blind"],
  STOPPED: ["stopped", "bad"],
  STUCK: ["stuck", "bad"],
  LOSING_DATA: ["losing data", "lost"],
  SUSPENDED: ["suspended", "lost"],
  CANT_SEE: ["can’t see", "blind"],
};

export const tone = (state) => (STATES[state] ?? ["", "blind"])[1];
export const word = (state) => (STATES[state] ?? [String(state).toLowerCase()])[0];

/** A state as shape, word and colour. */
export function badge(state) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${state in STATES ? state : "CANT_SEE"}`);
  picture.append(use);
  return h("span", { class: `state ${tone(state)}`, "data-state": state }, picture, word(state));
}

const ERRORS = { StreamConflict: "conflicting stream", ForeignRecord: "foreign record" };

/** The class of an error; in words what no handler failed at. */
export const errorName = (errorClass) => ERRORS[errorClass] ?? errorClass;

/** What was put aside: "3 parked, 1 conflicting, 2 foreign"; "" when nothing was. `all` counts the other two as well. */
export function parkedIn(all, conflicting, foreign) {
  const counts = [[all - conflicting - foreign, "parked"], [conflicting, "conflicting"], [foreign, "foreign"]];
  return counts.filter(([number]) => number > 0).map(([number, name]) => `${count(number)} ${name}`).join(", ");
}

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Seconds for people: 0.4 s, 12 s, 4 min 12 s, 3 h 5 min, 2 d 4 h. */
export function duration(seconds) {
  if (!known(seconds)) return "?";
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 0.05) return "0 s";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pair = (big, bigUnit, small, smallUnit) => (small ? `${big} ${bigUnit} ${small} ${smallUnit}` : `${big} ${bigUnit}`);
  if (whole < 3600) return pair(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return pair(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return pair(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

/** The same of what is no measurement: 2 s rather than 2.0 s. */
export const round = (seconds) => duration(seconds).replace(".0 s", " s");

/** What is short in milliseconds: 84 ms, 1.2 s. */
export const span = (seconds) => (seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : duration(seconds));

const wholeNumber = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const shortNumber = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => (known(value) ? wholeNumber.format(value) : "?");
/** How many wait; of what nobody counted to its end, how many at least. */
export const waiting = (stage, shown = count) => `${stage.at_least ? "at least " : ""}${shown(stage.pending)}`;
export const brief = (value) => (known(value) ? (value < 10000 ? wholeNumber : shortNumber).format(value) : "?");

/** Events a second. */
export function rate(value) {
  if (!known(value)) return "–";
  if (value > 0 && value < 0.1) return "<0.1/s";
  return `${value === 0 || value >= 9.95 ? brief(Math.round(value)) : value.toFixed(1)}/s`;
}

/** "20 s to 40 s"; "" when there is none. */
export function eta(range) {
  if (!range) return "";
  if (!known(range.high)) return `caught up in ${round(range.low)} or later`;
  const [low, high] = [round(range.low), round(range.high)];
  return low === high ? `caught up in ${low}` : `caught up in ${low} to ${high}`;
}

/** The same in few letters, for a box: "20–40 s", "50 s–2 min", "> 3 min"; "" when there is none. */
export function left(range) {
  if (!range) return "";
  const [[low, unit], high] = [coarse(range.low), known(range.high) ? coarse(range.high) : null];
  if (!high) return `> ${low} ${unit}`;
  if (unit !== high[1]) return `${low} ${unit}–${high[0]} ${high[1]}`;
  return low === high[0] ? `${low} ${unit}` : `${low}–${high[0]} ${unit}`;
}

function coarse(seconds) {
  if (seconds < 59.5) return [Math.max(1, Math.round(seconds)), "s"];
  if (seconds < 3570) return [Math.max(1, Math.round(seconds / 60)), "min"];
  return seconds < 171000 ? [Math.max(1, Math.round(seconds / 3600)), "h"] : [Math.round(seconds / 86400), "d"];
}

/** 12:03:10, here; with the date when it is not of the last half day. */
export function clock(time) {
  if (!time) return "?";
  const date = new Date(time);
  const near = Math.abs(Date.now() - date) < 12 * 3600 * 1000;
  return near ? date.toLocaleTimeString("en-GB") : `${date.toLocaleDateString("en-CA")} ${date.toLocaleTimeString("en-GB")}`;
}

/** A table; a cell is text or an element. `columns`: [heading, "n" for numbers, "wide" for long text]. */
export function table(columns, rows, caption) {
  const cell = (tag, content, kind) => h(tag, { class: kind ?? null, scope: tag === "th" ? "col" : null }, content ?? "");
  return h(
    "table",
    {},
    caption ? h("caption", { class: "visually-hidden" }, caption) : null,
    h("thead", {}, h("tr", {}, columns.map(([name, kind]) => cell("th", name, kind)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((content, index) => cell("td", content, columns[index][1]))))),
  );
}
