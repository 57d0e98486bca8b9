// The tree as an outline. Only the rows in sight are in the document, so that its size does not matter. Paths without
// branches are not indented further: the indentation shows where the search branched.

const ROW = 26;
const DOTTED = ["pruned", "cancelled", "discarded"]; // statuses with a colour of their own
const outline = { open: new Set(), lines: [], query: "", filter: "", matches: [], kept: null };

function openAll() {
  outline.open = new Set(shown.rows.filter((row) => row.children.length).map((row) => row.number));
}
function openPath(number) {
  for (const at of ancestry(number).slice(0, -1)) outline.open.add(at);
}
function openAtFirst() {
  outline.open = new Set([0]);
  if (shown.rows.length <= 200) openAll();
  else openPath(shown.selected);
}

// What a filter or a query keeps: the rows that match, and the way to them.
function keep() {
  const query = outline.query.toLowerCase();
  const matches = (row) =>
    row.number > 0 &&
    (!outline.filter || is(row, outline.filter)) &&
    (!query || row.key.startsWith(query) || row.text.toLowerCase().includes(query));
  const filtering = outline.filter || query;
  outline.matches = filtering ? shown.rows.filter(matches).map((row) => row.number) : [];
  outline.kept = filtering ? new Set(outline.matches.flatMap(ancestry)) : null;
  $("found").textContent = filtering ? whole(outline.matches.length) + " found" : "";
}

function layOut() {
  outline.lines = [];
  const work = [[0, 0]];
  while (work.length) {
    const [number, indent] = work.pop();
    if (outline.kept && !outline.kept.has(number)) continue;
    outline.lines.push({ number, indent });
    if (!outline.kept && !outline.open.has(number)) continue;
    const children = shown.rows[number].children;
    const deeper = indent + (children.length > 1 || number === 0 ? 1 : 0);
    for (const child of [...children].reverse()) work.push([child, deeper]);
  }
  $("space").style.height = outline.lines.length * ROW + "px";
  draw();
}

function draw() {
  const box = $("outline");
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 8);
  const last = Math.min(outline.lines.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 8);
  const lines = outline.lines.slice(first, last).map((line) => lineOf(line));
  if (!outline.lines.length) lines.push(h("div", { class: "nothing" }, "No node matches."));
  $("slice").style.transform = "translateY(" + first * ROW + "px)";
  $("slice").replaceChildren(...lines);
  box.setAttribute("aria-activedescendant", "row-" + shown.selected);
}

function lineOf({ number, indent }) {
  const row = shown.rows[number];
  const [mark, style, meaning] = markOf(row);
  const opens = row.children.length > 0;
  const isOpen = opens && (outline.kept !== null || outline.open.has(number));
  const faded = row.pruned || row.status === "cancelled" || row.status === "discarded";
  const context = outline.kept && !outline.matches.includes(number);
  const classes = [
    "row",
    number === shown.selected && "selected",
    row.chosen && "on-path",
    faded && !row.chosen && "faded",
    context && "context",
  ];
  const guides = h("span", { class: "guides" });
  guides.style.width = 4 + indent * 16 + "px";
  const line = h(
    "div",
    {
      class: classes.filter(Boolean).join(" "),
      role: "treeitem",
      id: "row-" + number,
      "aria-level": indent + 1,
      "aria-selected": number === shown.selected,
      onclick: () => select(number, "outline"),
      ondblclick: () => toggle(number),
    },
    guides,
    h(
      "span",
      {
        class: "caret",
        onclick: (event) => {
          event.stopPropagation();
          toggle(number);
        },
      },
      opens ? (isOpen ? "▼" : "▶") : "",
    ),
    h(
      "span",
      { class: "mark " + style, title: meaning + (MEANING[row.status] ? ": " + MEANING[row.status] : "") },
      mark,
    ),
    pill(row.score),
    h("span", { class: "key", title: row.key }, shortKey(row)),
    textOf(row, isOpen),
    verdictOf(row),
    h("span", { class: "count" }, row.tokens ? whole(row.tokens) + " tok" : ""),
  );
  if (opens) line.setAttribute("aria-expanded", isOpen);
  return line;
}

function shortKey(row) {
  if (!row.number) return "prompt";
  const isOnly = row.parent > 0 && shown.rows[row.parent].children.length === 1;
  return (isOnly ? "↳ " : "") + (row.key.length <= 11 ? row.key : "…" + row.key.slice(-10).replace(/^[^.]*/, ""));
}
function textOf(row, isOpen) {
  const below = row.children.length && !isOpen ? "  (" + whole(size(row.number)) + " below)" : "";
  if (!row.number) return h("span", { class: "text" }, firstLine(shown.search.messages.at(-1).content) + below);
  if (row.status === "cancelled")
    return h("span", { class: "text said-nothing" }, "cancelled after " + whole(row.tokens) + " tokens");
  if (row.origin === "branch") return h("span", { class: "text said-nothing" }, "sub-search" + below);
  const text = firstLine(row.text);
  return h(
    "span",
    { class: "text" + (text ? "" : " said-nothing") },
    (row.origin === "given" ? "given: " : "") + (text || "nothing") + below,
  );
}
function verdictOf(row) {
  if (row.answer === undefined || row.answer === null || row.status !== "finished") return null;
  const final = shown.search.outcome && shown.search.outcome.answer;
  return h(
    "span",
    { class: "verdict" + (row.answer === final ? " agrees" : ""), title: "its answer" },
    "= " + plain(row.answer),
  );
}
function size(number) {
  let total = -1;
  const work = [number];
  while (work.length) {
    total += 1;
    work.push(...shown.rows[work.pop()].children);
  }
  return total;
}

function toggle(number, open = !outline.open.has(number)) {
  if (outline.kept || !shown.rows[number].children.length) return;
  if (open) outline.open.add(number);
  else outline.open.delete(number);
  layOut();
}

function reveal() {
  if (outline.kept && !outline.kept.has(shown.selected)) clearFilters();
  openPath(shown.selected);
  layOut();
  const place = outline.lines.findIndex((line) => line.number === shown.selected);
  const box = $("outline");
  const top = place * ROW;
  if (top < box.scrollTop) box.scrollTop = Math.max(0, top - ROW);
  else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight + 3 * ROW;
  draw();
}

function clearFilters() {
  outline.query = outline.filter = $("query").value = "";
  keep();
  showFilters();
}

function showFilters() {
  const chip = (kind, label, amount) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": outline.filter === kind,
        onclick: () => {
          outline.filter = outline.filter === kind ? "" : kind;
          keep();
          showFilters();
          $("outline").scrollTop = 0;
          layOut();
        },
      },
      DOTTED.includes(kind) ? h("span", { class: "dot " + kind }) : null,
      label,
      h("small", {}, whole(amount)),
    );
  const counts = STATUSES.map((kind) => [kind, shown.rows.filter((row) => row.number && is(row, kind)).length]);
  $("filters").replaceChildren(
    chip("", "all", shown.rows.length - 1),
    ...counts
      .filter(([, amount]) => amount)
      .map(([kind, amount]) => chip(kind, kind === "dead" ? "empty" : kind, amount)),
  );
}

function step(by) {
  const place = outline.lines.findIndex((line) => line.number === shown.selected);
  const next = outline.lines[Math.max(0, Math.min(outline.lines.length - 1, place + by))];
  if (next) select(next.number, "keys");
}

function onKey(event) {
  const row = shown.rows[shown.selected];
  const page = Math.max(1, Math.floor($("outline").clientHeight / ROW) - 1);
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (event.key in moves) step(moves[event.key]);
  else if (event.key === "ArrowRight" && row.children.length && !outline.kept && !outline.open.has(row.number))
    toggle(row.number, true);
  else if (event.key === "ArrowRight" && row.children.length) select(row.children[0], "keys");
  else if (event.key === "ArrowLeft" && !outline.kept && outline.open.has(row.number) && row.children.length)
    toggle(row.number, false);
  else if (event.key === "ArrowLeft" && row.parent >= 0) select(row.parent, "keys");
  else if (event.key === "Enter" || event.key === " ") toggle(row.number);
  else return;
  event.preventDefault();
}

function nextMatch() {
  if (!outline.matches.length) return;
  const later = outline.matches
    .map((number) => outline.lines.findIndex((line) => line.number === number))
    .sort((a, b) => a - b);
  const place = outline.lines.findIndex((line) => line.number === shown.selected);
  const next = later.find((at) => at > place);
  select(outline.lines[next === undefined ? later[0] : next].number, "keys");
}

function wireOutline() {
  $("outline").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  $("outline").addEventListener("keydown", onKey);
  $("query").addEventListener("input", () => {
    outline.query = $("query").value.trim();
    keep();
    $("outline").scrollTop = 0;
    layOut();
  });
  $("query").addEventListener("keydown", (event) => {
    if (event.key === "Enter") nextMatch();
    if (event.key === "Escape") {
      clearFilters();
      layOut();
      $("outline").focus();
    }
  });
  $("expand").addEventListener("click", () => {
    openAll();
    reveal();
  });
  $("collapse").addEventListener("click", () => {
    outline.open = new Set([0]);
    layOut();
    $("outline").scrollTop = 0;
  });
  $("chosen").addEventListener("click", () => select(lastChosen(), "button"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !["INPUT", "SELECT"].includes(event.target.tagName)) {
      event.preventDefault();
      $("query").focus();
    }
  });
  shown.listeners.push(reveal);
}

const lastChosen = () =>
  Math.max(
    0,
    shown.rows.findLastIndex((row) => row.chosen),
  );

function startOutline() {
  $("chosen").hidden = lastChosen() === 0;
  clearFilters();
  openAtFirst();
  layOut();
  reveal();
}
