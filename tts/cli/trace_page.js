// The head of the page, and putting its parts together.

function showHead() {
  const { search } = shown;
  $("strategy").textContent = search.strategy.replaceAll("_", " ");
  $("question").textContent = plain(search.messages.at(-1).content);
  document.title = plain(search.strategy.replaceAll("_", " ") + ": " + search.messages.at(-1).content).slice(0, 80);
  const chip = (name, value) =>
    h("span", { class: "chip" }, h("span", {}, name.replaceAll("_", " ") + " "), h("b", {}, plain(String(value))));
  const facts = {
    ...search.parameters,
    generator: search.generator,
    verifier: search.verifier || "none",
    seed: search.seed,
  };
  if (search.problem.id) facts.problem = search.problem.id;
  $("parameters").replaceChildren(
    ...Object.entries(facts)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => chip(name, typeof value === "object" ? JSON.stringify(value) : value)),
  );
  showAnswer(search);
}

function showAnswer({ outcome, ending }) {
  const answer = outcome && outcome.answer;
  const text = outcome && outcome.text ? firstLine(outcome.text.trim().split("\n").at(-1)) : "";
  const value = answer === null || answer === undefined ? "none" : plain(answer);
  const support =
    outcome && outcome.support !== null ? ", " + Math.round(outcome.support * 100) + " % of the candidates agree" : "";
  const style = !outcome || outcome.error ? " bad" : outcome.limit ? " cut" : "";
  $("answer").replaceChildren(
    h("div", { class: "label" }, "Answer"),
    h("div", { class: "value" + (value === "none" ? " absent" : ""), title: text }, value),
    h("div", { class: "end" + style }, plain(ending) + support),
  );
}

function showSpending() {
  const { usage, budget } = shown.search;
  const parts = [
    ["pruned", usage.pruned],
    ["cancelled", usage.cancelled],
    ["discarded", usage.discarded],
    ["failed", usage.failed],
  ];
  const kept = Math.max(0, usage.generated - parts.reduce((sum, [, tokens]) => sum + tokens, 0));
  parts.unshift(["kept", kept]);
  const left = Math.max(0, (budget.tokens || 0) - usage.generated);
  const sum = Math.max(1, usage.generated + left);
  const segments = parts
    .filter(([, tokens]) => tokens)
    .map(([name, tokens]) => {
      const segment = h("i", { class: name, title: name + ": " + whole(tokens) + " tokens" });
      segment.style.width = (tokens / sum) * 100 + "%";
      return segment;
    });
  const keys = parts
    .filter(([, tokens]) => tokens)
    .map(([name, tokens]) => h("span", { class: name, title: TOLD[name] }, name + " " + whole(tokens)));
  if (left) keys.push(h("span", { class: "left" }, "left " + whole(left)));
  const total = [
    h("b", {}, whole(usage.generated)),
    h("span", { class: "muted" }, "tokens sampled" + (budget.tokens ? " of " + whole(budget.tokens) : "")),
  ];
  $("spending").replaceChildren(
    h(
      "div",
      { class: "panel tokens" },
      h("div", { class: "total" }, total),
      h("div", { class: "stack" }, segments),
      h("div", { class: "key-list" }, keys),
    ),
    h("div", { class: "panel cells" }, cells(usage, budget)),
  );
}

const TOLD = {
  kept: "on paths that finished",
  pruned: "on branches that no finished path goes through",
  cancelled: "of branches aborted in flight",
  discarded: "of branches that arrived after the search had moved on",
  failed: "of attempts that failed and were made again",
};

function cells(usage, budget) {
  const list = [
    ["samples", whole(usage.samples), usage.samples, budget.samples, "sequences started"],
    [
      "verifier calls",
      whole(usage.verifier_calls),
      usage.verifier_calls,
      budget.verifier_calls,
      "sequences scored; it read " + whole(usage.verifier_tokens) + " tokens",
    ],
    [
      "critical path",
      usage.critical_path ? whole(usage.critical_path) : null,
      0,
      null,
      "tokens that had to be waited for, one after another",
      "tok",
    ],
    [
      "prompt + cached",
      short(usage.prompt_computed) + " + " + short(usage.prompt_cached),
      0,
      null,
      "prompt tokens computed, and those that came from a cache",
    ],
    ["time", seconds(usage.seconds), usage.seconds, budget.seconds, "wall-clock"],
    [
      "cost",
      usage.dollars === null ? null : "$" + usage.dollars.toPrecision(3),
      usage.dollars,
      budget.dollars,
      "dollars",
    ],
    [
      "operations",
      usage.flops === null ? null : short(usage.flops),
      usage.flops,
      budget.flops,
      "floating-point operations",
      "FLOP",
    ],
    [
      "unseen",
      usage.unobserved ? "≤ " + whole(usage.unobserved) : null,
      0,
      null,
      "tokens that aborts may have cost beyond what was seen",
      "tok",
    ],
  ];
  return list
    .filter(([, amount]) => amount !== null)
    .map(([name, amount, used, limit, meaning, unit]) => {
      const bar = limit ? h("div", { class: "bar" }, h("i", {})) : null;
      if (bar) bar.firstChild.style.width = Math.min(100, (used / limit) * 100) + "%";
      const of = limit
        ? h("small", {}, " / " + (name === "time" ? seconds(limit) : short(limit)))
        : unit
          ? h("small", {}, " " + unit)
          : null;
      return h(
        "div",
        { class: "cell", title: meaning },
        h("div", { class: "name" }, name),
        h("div", { class: "amount" }, amount, of),
        bar,
      );
    });
}

function showLegend() {
  const any = shown.rows.some((row) => row.score !== null);
  $("legend").hidden = !any;
  $("legend").replaceChildren("score " + score(shown.low), h("i", {}), score(shown.high));
}

function redraw() {
  colours.clear();
  drawMap();
  drawTime();
  draw();
  showDetails();
}

function show(number) {
  prepare(SEARCHES[number]);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const found = shown.rows.findIndex((row) => row.number && row.key === wanted);
  if (found > 0) shown.selected = found;
  showHead();
  showSpending();
  showLegend();
  layOutMap();
  layOutTime();
  startOutline();
  redraw();
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  redraw();
}

function start() {
  const choice = $("searches");
  choice.hidden = SEARCHES.length < 2;
  choice.append(
    ...SEARCHES.map((search, number) =>
      h("option", { value: number }, number + ": " + firstLine(search.messages.at(-1).content).slice(0, 70)),
    ),
  );
  choice.addEventListener("change", () => show(Number(choice.value)));
  $("theme").addEventListener("click", toggleTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    if (shown.search) redraw();
  }).observe($("outline"));
  wireOutline();
  wireMap();
  wireTime();
  shown.listeners.push(showDetails, drawMap, drawTime);
  show(0);
}

start();
