// Everything about the selected node.

function fact(name, value, mono) {
  return value === null || value === undefined
    ? null
    : h("div", {}, h("dt", {}, name), h("dd", { class: mono ? "mono" : "" }, value));
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function badges(row) {
  const [, style, meaning] = markOf(row);
  const list = [];
  if (row.chosen)
    list.push(h("span", { class: "badge is-chosen" }, row.children.length ? "on the chosen path" : "chosen"));
  if (meaning !== "chosen") list.push(h("span", { class: "badge " + style, title: MEANING[row.status] }, row.status));
  if (row.pruned && !row.chosen)
    list.push(h("span", { class: "badge muted", title: "no finished path goes through it" }, "pruned"));
  return list;
}

function crumbs(row) {
  const path = ancestry(row.number);
  const link = (number) =>
    h(
      "button",
      { type: "button", onclick: () => select(number, "crumb") },
      number ? "·" + shown.rows[number].key.split(".").pop() : "prompt",
    );
  const links = path.slice(0, -1).map(link);
  return links.length ? h("nav", { class: "crumbs", "aria-label": "Path" }, links) : null;
}

function factsOf(row) {
  const logprobs = row.logprobs || [];
  return h(
    "dl",
    { class: "facts" },
    fact("score of the path", row.score === null ? null : score(row.score)),
    fact("answer", row.answer === undefined || row.answer === null ? null : plain(row.answer)),
    fact("votes", row.votes === null || row.votes === undefined ? null : String(Math.round(row.votes * 1000) / 1000)),
    fact("tokens", whole(row.tokens)),
    fact("tokens of the path", whole(row.path)),
    fact("depth", String(row.depth)),
    fact("arrived as number", whole(row.number)),
    fact("asked at", row.asked === null ? null : seconds(row.asked)),
    fact("arrived at", seconds(row.at)),
    fact("took", row.asked === null ? null : seconds(row.at - row.asked)),
    fact("mean log-probability", logprobs.length ? mean(logprobs).toFixed(3) : null),
    fact("nodes below", row.children.length ? whole(size(row.number)) : null),
    fact("seed", row.seed === "None" ? null : row.seed, true),
  );
}

function heat(logprobs) {
  const cells = logprobs.map((value, place) => {
    const cell = h("i", {
      title: "token " + (place + 1) + ": " + value.toFixed(3) + " (" + (Math.exp(value) * 100).toFixed(1) + " %)",
    });
    // From the ground's colour for a sure token to the warning's for one of less than 1 in 20.
    cell.style.background =
      "color-mix(in srgb, var(--cancelled) " + Math.min(100, (-value / 3) * 100).toFixed(0) + "%, var(--sunk))";
    return cell;
  });
  return [h("h3", {}, "Log-probability of each token"), h("div", { class: "heat" }, cells)];
}

function stepScores(path) {
  const scored = path.filter((row) => row.scores.length);
  if (!scored.length) return [];
  const lines = scored.flatMap((row) =>
    row.scores.map((value) => {
      const bar = h("i", {});
      bar.style.width = Math.max(1, value * 100) + "%";
      bar.style.background = scoreColour(value);
      return [
        h("span", { class: "muted" }, "·" + row.key.split(".").pop()),
        h("div", { class: "track" }, bar),
        h("span", {}, score(value)),
      ];
    }),
  );
  return [h("h3", {}, "Score of each step"), h("div", { class: "bars" }, lines)];
}

function pathSteps(path, selected) {
  const steps = path.map((row) => {
    const step = h(
      "button",
      {
        type: "button",
        class: "step" + (row.number === selected ? " here" : ""),
        onclick: () => select(row.number, "step"),
      },
      h(
        "span",
        { class: "about" },
        h("span", { class: "key" }, row.key),
        row.score === null ? null : h("span", {}, score(row.score)),
        h("span", {}, whole(row.tokens) + " tok"),
      ),
      h("pre", {}, plain(row.text).trimEnd()),
    );
    step.style.borderLeftColor = scoreColour(row.score);
    return step;
  });
  return [h("h3", {}, "Whole path"), h("div", {}, steps)];
}

function promptDetails() {
  const { search } = shown;
  const messages = search.messages.map((message) => [
    h("h3", {}, message.role),
    h("pre", { class: "said" }, plain(message.content)),
  ]);
  return [
    messages,
    h("h3", {}, "As the model read it"),
    h("details", {}, h("summary", {}, "prompt"), h("pre", { class: "said" }, plain(search.prompt))),
    h("h3", {}, "Asked for"),
    h(
      "dl",
      { class: "facts" },
      fact("generator", search.generator),
      fact("verifier", search.verifier || "none"),
      fact("temperature", String(search.sampling.temperature)),
      fact("cap of a path", whole(search.caps.path) + " tok"),
      fact("cap of a step", whole(search.caps.step) + " tok"),
      fact("seed", String(search.seed)),
      fact("order", search.order_sensitive ? "by arrival" : "by key"),
      fact("version", search.version),
    ),
    faults(),
  ];
}

function faults() {
  const { faults: list } = shown.search;
  if (!list.length) return null;
  const lines = list
    .slice(0, 50)
    .map(
      (fault) =>
        fault.key +
        " at " +
        seconds(fault.seconds) +
        ": " +
        (fault.reason === "empty" ? "said nothing" : "failed") +
        ", " +
        whole(fault.tokens) +
        " tokens",
    );
  return [h("h3", {}, "Attempts made again: " + list.length), h("pre", { class: "said" }, lines.join("\n"))];
}

function showDetails() {
  const row = shown.rows[shown.selected];
  const path = ancestry(row.number)
    .slice(1)
    .map((number) => shown.rows[number]);
  const parts = [
    h("h2", {}, h("span", { class: "mono" }, row.key || "prompt"), row.number ? badges(row) : null),
    crumbs(row),
  ];
  if (row.number === 0) parts.push(promptDetails());
  else {
    const nothing = row.status === "cancelled" ? "Aborted in flight; its text was not kept." : "It says nothing.";
    parts.push(factsOf(row), h("h3", {}, row.origin === "given" ? "Given text" : "Step"));
    parts.push(row.text ? h("pre", { class: "said" }, plain(row.text)) : h("p", { class: "muted" }, nothing));
    if (row.logprobs && row.logprobs.length) parts.push(heat(row.logprobs));
    parts.push(stepScores(path));
    if (path.length > 1) parts.push(pathSteps(path, row.number));
  }
  $("details").replaceChildren(...parts.flat(3).filter(Boolean));
  $("details").scrollTop = 0;
}
