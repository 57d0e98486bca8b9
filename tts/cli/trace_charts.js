// The two drawings: a map of the whole tree, and the timeline.

function canvasOf(id) {
  const canvas = $(id);
  const ratio = devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  return { pen, width, height };
}

const isFaded = (row) => (row.pruned || row.status === "discarded") && !row.chosen;
function fillOf(row) {
  return row.status === "cancelled"
    ? colour("cancelled")
    : row.status === "discarded"
      ? colour("discarded")
      : scoreColour(row.score);
}

// The map: every node a box, its children side by side below it.

const map = { boxes: [], hover: -1 };

function layOutMap() {
  const leaves = new Array(shown.rows.length).fill(0);
  const starts = new Array(shown.rows.length).fill(0);
  for (let number = shown.rows.length - 1; number >= 0; number--) {
    const row = shown.rows[number];
    leaves[number] = leaves[number] || 1;
    if (row.parent >= 0) leaves[row.parent] += leaves[number];
  }
  for (const row of shown.rows) {
    let start = starts[row.number];
    for (const child of row.children) {
      starts[child] = start;
      start += leaves[child];
    }
  }
  map.total = leaves[0];
  map.depth = shown.rows.reduce((most, row) => Math.max(most, row.depth), 1);
  map.boxes = shown.rows.map((row) => ({ row, from: starts[row.number], to: starts[row.number] + leaves[row.number] }));
}

function drawMap() {
  $("map").style.height = Math.min(86, 12 + map.depth * 16) + "px";
  const { pen, width, height } = canvasOf("map");
  const pad = 6;
  const unit = (width - 2 * pad) / map.total;
  const level = Math.min(16, (height - 2 * pad) / map.depth);
  for (const box of map.boxes) {
    const { row } = box;
    if (!row.number) continue;
    Object.assign(box, {
      x: pad + box.from * unit,
      y: pad + (row.depth - 1) * level,
      width: (box.to - box.from) * unit,
      height: level,
    });
    const gap = box.width > 4 ? 1 : 0;
    pen.globalAlpha = isFaded(row) ? 0.38 : row.status === "cancelled" ? 0.6 : 1;
    pen.fillStyle = fillOf(row);
    pen.fillRect(box.x, box.y, Math.max(0.6, box.width - gap), level - 1);
    pen.globalAlpha = 1;
  }
  for (const box of map.boxes) {
    if (!box.row.chosen || !box.row.number) continue;
    pen.fillStyle = colour("accent");
    pen.fillRect(box.x, box.y, Math.max(2, box.width - 1), 3);
  }
  const picked = map.boxes[shown.selected];
  if (picked && picked.row.number) {
    pen.strokeStyle = colour("ink");
    pen.lineWidth = 1.5;
    pen.strokeRect(picked.x - 1, picked.y - 1, Math.max(3, picked.width) + 1, level + 1);
  }
}

function boxAt(event) {
  const { left, top } = $("map").getBoundingClientRect();
  const x = event.clientX - left;
  const y = event.clientY - top;
  return map.boxes.find(
    (box) => box.row.number && x >= box.x && x < box.x + Math.max(1, box.width) && y >= box.y && y < box.y + box.height,
  );
}

// The timeline: what was in flight, packed into as few lanes as it takes; below it what the verifier was asked.

const time = { bars: [], lanes: 1, from: 0, to: 1, end: 1, dragged: null, moved: false };
const CALLS = 12;
const AXIS = 16;

function layOutTime() {
  const ends = [];
  time.bars = shown.rows
    .slice(1)
    .filter((row) => row.origin === "sampled")
    .map((row) => ({ row, from: row.asked === null ? row.at : row.asked, to: row.at }));
  time.bars.sort((first, second) => first.from - second.from || first.row.number - second.row.number);
  for (const bar of time.bars) {
    let lane = ends.findIndex((end) => end <= bar.from);
    if (lane < 0) lane = ends.length;
    ends[lane] = bar.to;
    bar.lane = lane;
  }
  time.lanes = Math.max(1, ends.length);
  const calls = shown.search.calls;
  time.end = Math.max(
    1e-6,
    shown.search.usage.seconds || 0,
    ...[...time.bars.slice(-1), ...calls.slice(-1)].map((bar) => bar.to),
    shown.rows.at(-1).at,
  );
  time.from = 0;
  time.to = time.end;
  $("lanes").textContent =
    whole(time.bars.length) +
    " samples, at most " +
    whole(ends.length) +
    " in flight" +
    (calls.length ? "; below, " + whole(calls.length) + " calls of the verifier" : "") +
    "; line: tokens so far";
}

function ticks(from, to, count) {
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const list = [];
  for (let at = Math.ceil(from / step) * step; at <= to + step * 1e-9; at += step) list.push(at);
  return list;
}

function drawTime() {
  const { pen, width, height } = canvasOf("time");
  const calls = shown.search.calls.length ? CALLS : 0;
  const room = height - AXIS - calls - 4;
  const scale = width / (time.to - time.from);
  const x = (moment) => (moment - time.from) * scale;
  drawAxis(pen, width, height, x);
  const lane = Math.min(14, room / time.lanes);
  for (const bar of time.bars) {
    Object.assign(bar, {
      x: x(bar.from),
      y: 2 + bar.lane * lane,
      width: Math.max(1.5, (bar.to - bar.from) * scale),
      height: lane,
    });
    if (bar.x > width || bar.x + bar.width < 0) continue;
    pen.globalAlpha = isFaded(bar.row) ? 0.45 : bar.row.status === "cancelled" ? 0.6 : 1;
    pen.fillStyle = fillOf(bar.row);
    pen.fillRect(bar.x, bar.y, Math.max(1, bar.width - 0.5), Math.max(0.8, lane - (lane > 3 ? 1 : 0.2)));
    pen.globalAlpha = 1;
    if (bar.row.chosen) {
      pen.fillStyle = colour("accent");
      pen.fillRect(bar.x, bar.y, bar.width, Math.max(1.5, lane / 4));
    }
  }
  drawCalls(pen, width, height, x, scale);
  drawTokens(pen, room, x);
  drawPicked(pen);
}

function drawAxis(pen, width, height, x) {
  pen.fillStyle = colour("soft");
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1;
  pen.textAlign = "left";
  for (const moment of ticks(time.from, time.to, Math.max(3, width / 120))) {
    pen.beginPath();
    pen.moveTo(Math.round(x(moment)) + 0.5, 0);
    pen.lineTo(Math.round(x(moment)) + 0.5, height - AXIS + 4);
    pen.stroke();
    pen.fillText(seconds(moment), x(moment) + 3, height - 4);
  }
}

function drawCalls(pen, width, height, x, scale) {
  pen.fillStyle = colour("discarded");
  for (const call of shown.search.calls) {
    call.x = x(call.from);
    call.width = Math.max(2, (call.to - call.from) * scale);
    if (call.x > width || call.x + call.width < 0) continue;
    pen.globalAlpha = 0.75;
    pen.fillRect(call.x, height - AXIS - CALLS + 3, call.width, CALLS - 5);
  }
  pen.globalAlpha = 1;
}

function drawTokens(pen, room, x) {
  const arrivals = shown.rows.slice(1).sort((first, second) => first.at - second.at);
  const most = Math.max(
    1,
    arrivals.reduce((sum, row) => sum + row.tokens, 0),
  );
  let sum = 0;
  pen.beginPath();
  pen.moveTo(x(0), room);
  for (const row of arrivals) {
    pen.lineTo(x(row.at), room - (sum / most) * (room - 4));
    sum += row.tokens;
    pen.lineTo(x(row.at), room - (sum / most) * (room - 4));
  }
  pen.lineTo(x(time.end), room - (sum / most) * (room - 4));
  pen.strokeStyle = colour("ink");
  pen.globalAlpha = 0.55;
  pen.lineWidth = 1.2;
  pen.stroke();
  pen.globalAlpha = 1;
}

function drawPicked(pen) {
  const picked = time.bars.find((bar) => bar.row.number === shown.selected);
  if (!picked) return;
  pen.strokeStyle = colour("ink");
  pen.lineWidth = 1.5;
  pen.strokeRect(picked.x - 1, picked.y - 1, Math.max(3, picked.width) + 1.5, Math.max(3, picked.height) + 1);
}

function barAt(event) {
  const { left, top } = $("time").getBoundingClientRect();
  const x = event.clientX - left;
  const y = event.clientY - top;
  const near = (bar) =>
    x >= bar.x - 2 && x <= bar.x + bar.width + 2 && y >= bar.y - 1 && y <= bar.y + Math.max(2, bar.height);
  return time.bars.findLast(near);
}
function callAt(event) {
  const { left, top, height } = $("time").getBoundingClientRect();
  const x = event.clientX - left;
  if (event.clientY - top < height - AXIS - CALLS) return undefined;
  return shown.search.calls.find((call) => x >= call.x - 1 && x <= call.x + call.width + 1);
}

function zoom(factor, share = 0.5) {
  const span = Math.min(time.end, Math.max(time.end / 5000, (time.to - time.from) * factor));
  const middle = time.from + (time.to - time.from) * share;
  moveTo(middle - span * share, span);
}
function moveTo(from, span) {
  time.from = Math.max(0, Math.min(time.end - span, from));
  time.to = time.from + span;
  drawTime();
}

function wireTime() {
  const canvas = $("time");
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { left, width } = canvas.getBoundingClientRect();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - left) / width);
    },
    { passive: false },
  );
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    time.dragged = { x: event.clientX, from: time.from };
    time.moved = false;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!time.dragged) {
      const bar = barAt(event);
      const call = bar ? undefined : callAt(event);
      const asked =
        call &&
        "verifier: " + whole(call.paths) + " paths, " + whole(call.tokens) + " tokens, " + seconds(call.to - call.from);
      return tip(event, bar ? summary(bar.row) : asked);
    }
    const by = event.clientX - time.dragged.x;
    time.moved = time.moved || Math.abs(by) > 3;
    return moveTo(time.dragged.from - (by / canvas.clientWidth) * (time.to - time.from), time.to - time.from);
  });
  canvas.addEventListener("pointerup", (event) => {
    const bar = time.moved ? undefined : barAt(event);
    time.dragged = null;
    if (bar) select(bar.row.number, "time");
  });
  canvas.addEventListener("pointerleave", () => tip(null, ""));
  canvas.addEventListener("dblclick", () => moveTo(0, time.end));
  $("closer").addEventListener("click", () => zoom(0.5));
  $("farther").addEventListener("click", () => zoom(2));
  $("whole").addEventListener("click", () => moveTo(0, time.end));
}

function wireMap() {
  const canvas = $("map");
  canvas.addEventListener("click", (event) => {
    const box = boxAt(event);
    if (box) select(box.row.number, "map");
  });
  canvas.addEventListener("pointermove", (event) => {
    const box = boxAt(event);
    tip(event, box ? summary(box.row) : "");
  });
  canvas.addEventListener("pointerleave", () => tip(null, ""));
}
