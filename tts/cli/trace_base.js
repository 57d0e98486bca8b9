// What the parts of the page share: the data, the chosen search, colours, and making elements.
// Text of a model only ever becomes the text of an element; no markup is made of strings.

const $ = (id) => document.getElementById(id);
const SEARCHES = JSON.parse($("data").textContent);
const STATUSES = ["finished", "pruned", "cancelled", "discarded", "truncated", "dead"];
const MARKS = { open: "", finished: "✓", truncated: "…", dead: "∅", cancelled: "✗", discarded: "↷" };
const MEANING = {
  open: "was or could be continued",
  finished: "ended by the model or by a stop",
  truncated: "ran into a cap; not finished",
  dead: "an empty step, twice",
  cancelled: "aborted in flight; its text was not kept",
  discarded: "paid for, but arrived after the search had moved on",
};
// The search on show: its data, its rows with children and depth, the selected row, and who wants to know of changes.
const shown = { search: null, rows: [], selected: 0, low: 0, high: 1, listeners: [] };

function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) element.append(child);
  return element;
}

// Control characters, and those that turn the direction of writing, are shown instead of obeyed.
function plain(text) {
  return text
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)))
    .replace(
      /[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
      (sign) => "⟨U+" + sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩",
    );
}

function firstLine(text) {
  const line = text.split("\n").find((part) => part.trim());
  return line === undefined ? "" : plain(line.trim()).slice(0, 240);
}

const whole = (number) => Math.round(number).toLocaleString("en-US");
function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.001) return (value * 1e6).toFixed(0) + " µs";
  if (value < 1) return (value * 1000).toFixed(value < 0.01 ? 1 : 0) + " ms";
  return value < 120 ? value.toFixed(2) + " s" : (value / 60).toFixed(1) + " min";
}
function short(number) {
  for (const [size, unit] of [
    [1e18, "E"],
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
  ])
    if (number >= size) return (number / size).toPrecision(3) + " " + unit;
  return whole(number);
}
const score = (value) => (value !== 0 && value < 0.001 ? value.toExponential(0) : value.toFixed(3));

const probe = h("i", { hidden: true });
document.body.append(probe);
const colours = new Map();
function colour(name) {
  if (!colours.has(name))
    colours.set(
      name,
      getComputedStyle(document.documentElement)
        .getPropertyValue("--" + name)
        .trim(),
    );
  return colours.get(name);
}
const channels = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
function scoreColour(value) {
  if (value === null) return colour("none");
  const span = shown.high - shown.low;
  const place = span ? Math.min(1, Math.max(0, (value - shown.low) / span)) * 2 : 2;
  const [from, to] = (place < 1 ? ["low", "middle"] : ["middle", "high"]).map((name) => channels(colour(name)));
  return (
    "rgb(" + from.map((part, i) => Math.round(part + (to[i] - part) * (place < 1 ? place : place - 1))).join(" ") + ")"
  );
}
function inkOn(background) {
  const [red, green, blue] = background.match(/\d+/g).map(Number);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#10181f" : "#ffffff";
}
function pill(value) {
  if (value === null) return h("span", { class: "pill empty" }, "–");
  const element = h("span", { class: "pill", title: "score " + value }, score(value));
  element.style.background = scoreColour(value);
  element.style.color = inkOn(scoreColour(value));
  return element;
}

function markOf(row) {
  const isEnd = row.chosen && !row.children.some((child) => shown.rows[child].chosen) && row.number > 0;
  return isEnd ? ["★", "is-chosen", "chosen"] : [MARKS[row.status], "is-" + row.status, row.status];
}

// Whether a row counts for a filter; "pruned" is no status of its own.
const is = (row, kind) => (kind === "pruned" ? row.pruned : row.status === kind);

function prepare(search) {
  const rows = search.rows.map((row, number) => ({ ...row, number, children: [], depth: 0, path: 0 }));
  for (const row of rows.slice(1)) {
    const parent = rows[row.parent];
    parent.children.push(row.number);
    row.depth = parent.depth + 1;
    row.path = parent.path + row.tokens;
  }
  const draw = (number) => Number(rows[number].key.split(".").pop());
  for (const row of rows) row.children.sort((first, second) => draw(first) - draw(second));
  const scores = rows.map((row) => row.score).filter((value) => value !== null);
  Object.assign(shown, {
    search,
    rows,
    low: scores.length ? Math.min(...scores) : 0,
    high: scores.length ? Math.max(...scores) : 1,
    selected: Math.max(
      0,
      rows.findLastIndex((row) => row.chosen),
    ),
  });
  if (shown.low === shown.high) shown.low = 0;
}

function ancestry(number) {
  const path = [];
  for (let at = number; at >= 0; at = shown.rows[at].parent) path.unshift(at);
  return path;
}

function select(number, source) {
  shown.selected = number;
  for (const listener of shown.listeners) listener(source);
}

function tip(event, text) {
  const element = $("tip");
  element.hidden = !text;
  if (!text) return;
  element.textContent = text;
  const { width, height } = element.getBoundingClientRect();
  element.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
  element.style.top =
    (event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18) + "px";
}

function summary(row) {
  const parts = [(row.key || "prompt") + "  " + (row.pruned ? "pruned" : row.status)];
  if (row.score !== null) parts[0] += "  score " + score(row.score);
  parts[0] += "  " + whole(row.tokens) + " tokens";
  if (row.asked !== null) parts.push("asked " + seconds(row.asked) + ", here " + seconds(row.at));
  parts.push(firstLine(row.text));
  return parts.join("\n");
}
