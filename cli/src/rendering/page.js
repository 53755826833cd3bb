"use strict";
// Shows a document: one story, or two side by side. Steps are rows, lanes are columns. Only what can be seen is drawn, so that ten
// thousand steps scroll as ten do. Every text of a document becomes a text node, never markup, and nothing is ever loaded.
//
// `show(document)` is the way in; what is embedded in the page is shown at the start, and a server may hand it others. A place is a number
// from 0, the start: without comparison it is a step, else a row of two steps, one a side, of which either may be missing.
const $ = (id) => document.getElementById(id);
const NARROW = 5, TALL = 48, OVERSCAN = 8, BLOCK = 64;
let told, sides, places, current = 0, rowHeight = 24, playing = null, matches = [], drawn = null;
/** Rows: each the places from the first to the last of it. Folded groups that were opened, by their first place. */
let rows = [], rowOf = [], groups = [], opened = new Set();
let gutter = 46, textAt = 0, width = 0;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const cut = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text);
const words = (name) => name.replaceAll("-", " ");

// What a document must be like for the rest to rely on it. What is wrong is said; nothing is guessed.
const FIELDS = {
  lanes: { name: "string", kind: "string" },
  steps: { lane: "lane", actor: "string", kind: "string", text: "string", fault: "boolean", clause: "string", checkpoints: "array", breaks: "array" },
  arrows: { from: "lane", to: "lane", sent: "step", until: "step", fate: "string", kind: "string", label: "string" },
  lives: { lane: "lane", label: "string", from: "step", until: "step?", crashed: "boolean", old: "boolean" },
  holds: { lane: "lane", feeder: "lane", from: "step", until: "step?" },
  checkpoints: { id: "number", from: "step", until: "step?", complete: "boolean" },
  facts: { step: "step", lane: "lane", rows: "rows" },
};
function check(it) {
  const must = (right, what) => { if (!right) throw new Error(what); };
  must(it && it.format === "snapline-page", "it is not a document of a snapline page");
  must(it.version === 1, `it has version ${cut(String(it.version), 40)}, and this page shows version 1`);
  must(Array.isArray(it.stories) && it.stories.length > 0, "it has no stories");
  must(typeof it.clauses === "object" && it.clauses && Array.isArray(it.commands) && Array.isArray(it.production), "`clauses`, `commands` or `production` is missing or invalid");
  must(Array.isArray(it.parts), "`parts` is not a list");
  const stepOf = (story) => it.stories[story]?.scene?.steps?.length ?? -1;
  it.stories.forEach(({ label, scene }, story) => {
    const at = `story ${story + 1}`;
    must(typeof label === "string" && scene && typeof scene.title === "string" && typeof scene.ending === "string", `${at} has no label, title or ending`);
    for (const list of Object.keys(FIELDS)) must(Array.isArray(scene[list]), `${at}: \`${list}\` is not a list`);
    const is = {
      lane: (value) => Number.isInteger(value) && value >= 0 && value < scene.lanes.length,
      step: (value) => Number.isInteger(value) && value >= 0 && value <= scene.steps.length,
      array: Array.isArray,
      rows: (value) => Array.isArray(value) && value.every((row) => Array.isArray(row) && row.length === 2 && row.every((cell) => typeof cell === "string")),
    };
    for (const [list, fields] of Object.entries(FIELDS)) scene[list].forEach((entry, place) => {
      for (const [field, kind] of Object.entries(fields)) {
        const value = entry && entry[field], base = kind.replace("?", "");
        const right = kind.endsWith("?") && value === null || (is[base] ? is[base](value) : typeof value === base);
        must(right, `${at}: in \`${list}\`, entry ${place + 1}, \`${field}\` is invalid: ${cut(JSON.stringify(value) ?? "it is missing", 80)}`);
      }
    });
    const { broken } = scene, parts = it.parts[story] ?? null;
    must(parts === null || parts && is.step(parts.step) && typeof parts.says === "string", `${at}: \`parts\` is invalid`);
    must(broken === null || broken && is.step(broken.step) && typeof broken.name === "string" && typeof broken.says === "string", `${at}: \`broken\` is invalid`);
  });
  must(it.production.every((one) => one && typeof one.says === "string" && (one.step === null || Number.isInteger(one.step) && one.step > 0 && one.step <= stepOf(one.story))), "`production` is invalid");
  const pair = (row) => Array.isArray(row) && [0, 1].every((side) => Number.isInteger(row[side]) && row[side] >= 0 && row[side] <= it.stories[side].scene.steps.length);
  must(it.compare === null || it.compare && it.stories.length === 2 && Array.isArray(it.compare.rows) && it.compare.rows.every(pair), "`compare` is invalid");
}

/** A side: a scene with what is looked up in it at every drawing. */
function side({ scene, label }, number) {
  const steps = scene.steps.length, factsOf = scene.lanes.map(() => []), touching = Array.from({ length: steps + 1 }, () => []);
  const blocks = Array.from({ length: Math.floor(steps / BLOCK) + 1 }, () => []), special = new Set();
  for (const fact of scene.facts) factsOf[fact.lane].push(fact);
  scene.arrows.forEach((arrow, place) => {
    touching[arrow.sent].push(place);
    if (arrow.until !== arrow.sent) touching[arrow.until].push(place);
    for (let block = Math.floor(arrow.sent / BLOCK); block <= Math.floor(arrow.until / BLOCK); block++) blocks[block].push(place);
    if (arrow.fate !== "arrived" && arrow.fate !== "under-way") special.add(arrow.until);
  });
  for (const life of scene.lives) { special.add(life.from); if (life.until !== null) special.add(life.until); }
  return { scene, label, number, factsOf, touching, blocks, special, x: 0, placeOf: null, stepAt: null, lastAt: null };
}
function factAt(one, lane, step) {
  const facts = one.factsOf[lane];
  let low = 0, high = facts.length;
  while (low < high) { const half = (low + high) >> 1; if (facts[half].step <= step) low = half + 1; else high = half; }
  return low > 0 ? facts[low - 1].rows : null;
}
const laneX = (one, lane) => one.x + one.lane * lane + one.lane / 2;
/** Where the story that is shown parts from what the correct protocol makes of it; null if that is not known. */
const partsHere = () => (told.compare ? null : told.parts[sides[0].story] ?? null);
/** What production came to at a step of the story that is shown. */
const productionHere = () => told.production.filter(({ story, step }) => step !== null && story === sides[0].story);
const stepsAt = (place) => sides.map((one) => [one, one.stepAt[place]]).filter(([, step]) => step > 0).map(([one, step]) => [one, one.scene.steps[step - 1], step]);
/** The place of the breach, or of the first difference; null if there is none. */
const brokenAt = () => (told.compare ? told.compare.first : sides[0].scene.broken ? sides[0].scene.broken.step : null);

// ---- where everything is

function measure() {
  const view = $("view"), count = sides.reduce((all, one) => all + one.scene.lanes.length, 0);
  width = Math.max(view.clientWidth, 320);
  gutter = 34 + 7 * String(places).length;
  const forText = width < 560 ? 220 : Math.min(430, width * 0.38);
  const lane = Math.max(NARROW * 8, Math.min(124, Math.floor((width - gutter - forText) / count)));
  let x = gutter;
  for (const one of sides) { one.x = x; one.lane = lane; x += lane * one.scene.lanes.length + (sides.length > 1 ? 14 : 0); }
  textAt = x + 6;
  width = Math.max(width, textAt + (width < 560 ? 260 : 150));
  const longest = Math.max(...sides.flatMap((one) => one.scene.lanes.map(({ name }) => name.length)));
  const names = $("lanes"), word = Math.max(...sides.flatMap((one) => one.scene.lanes.flatMap(({ name }) => name.split(" ").map((part) => part.length))));
  const steep = lane < Math.max(48, 6.9 * word + 5), high = Math.min(136, 12 + 7 * longest), tall = (steep ? high + 6 : 36) + (sides.length > 1 ? 18 : 0);
  names.replaceChildren();
  names.className = steep ? "steep" : "";
  for (const element_ of [names, $("rows")]) element_.style.width = `${width}px`;
  names.style.height = `${tall}px`;
  for (const one of sides) {
    if (sides.length > 1) names.append(element("span", one.label, { class: "side", style: `left: ${one.x}px; writing-mode: initial; transform: none` }));
    one.scene.lanes.forEach(({ name }, place) => {
      const at = steep ? `left: ${laneX(one, place) - 8}px; width: 16px; height: ${high}px` : `left: ${laneX(one, place) - lane / 2 + 2}px; width: ${lane - 4}px`;
      names.append(element("span", cut(name, 60), { title: cut(name, 500), style: at }));
    });
  }
}
/** Whether the filters let a place be seen. */
function shown(place) {
  const checkpoint = $("by-checkpoint").value, lane = $("by-lane").value, kind = $("by-kind").value;
  if (!checkpoint && !lane && !kind) return true;
  return stepsAt(place).some(([one, step, number]) => {
    if (checkpoint && !step.checkpoints.includes(Number(checkpoint))) return false;
    if (kind && step.kind !== kind) return false;
    return !lane || step.lane === Number(lane) || one.touching[number].some((at) => one.scene.arrows[at].from === Number(lane) || one.scene.arrows[at].to === Number(lane));
  });
}
/** Repetitions: places in a row that are about the same checkpoint, with nothing in them that stands out. */
function findGroups() {
  groups = [];
  if (sides.length > 1) return;
  const { scene, special } = sides[0], ended = new Set(scene.broken ? [scene.broken.step] : []);
  let about = null, open = null;
  for (let step = 1; step <= places; step++) {
    const at = scene.steps[step - 1], plain = !at.fault && !at.breaks.length && !special.has(step) && !ended.has(step);
    // The last steps of one are among the first of the next, and go with those.
    for (const checkpoint of at.checkpoints) about = about === null ? checkpoint : Math.max(about, checkpoint);
    if (plain && open && open.about === about) open.until = step;
    else if (plain) groups.push(open = { from: step, until: step, about });
    else open = null;
  }
  groups = groups.filter(({ from, until }) => until - from >= 3);
}
function layOut() {
  rows = [{ from: 0, until: 0 }];
  rowOf = new Array(places + 1).fill(-1);
  const folds = $("fold").checked;
  let next = 0;
  for (let place = 1; place <= places; place++) {
    while (next < groups.length && groups[next].until < place) next++;
    const group = groups[next];
    if (folds && group && group.from === place && !opened.has(place)) {
      let any = false;
      for (let at = place; at <= group.until && !any; at++) any = shown(at);
      if (any) rows.push({ from: place, until: group.until, about: group.about, folded: true });
      place = group.until;
    } else if (shown(place)) rows.push({ from: place, until: place, opens: folds && group && group.from === place });
  }
  rows.forEach((row, at) => { for (let place = row.from; place <= row.until; place++) rowOf[place] = at; });
  // A place that is not shown is at the row before it.
  for (let place = 1; place <= places; place++) if (rowOf[place] < 0) rowOf[place] = rowOf[place - 1];
  $("rows").style.height = `${rows.length * rowHeight + 12}px`;
  map();
  draw();
}
function map() {
  const marks = document.createDocumentFragment(), seen = new Set();
  const mark = (place, style) => {
    const at = (100 * rowOf[place]) / rows.length, key = `${style} ${at.toFixed(1)}`;
    if (seen.has(key)) return;
    seen.add(key);
    marks.append(element("i", undefined, { class: style, style: `top: ${at}%` }));
  };
  for (const one of sides) {
    one.scene.steps.forEach((step, at) => { if (step.fault) mark(one.placeOf[at + 1], "fault"); });
    for (const checkpoint of one.scene.checkpoints) if (checkpoint.until) mark(one.placeOf[checkpoint.until], checkpoint.complete ? "complete" : "given-up");
  }
  if (brokenAt() !== null) mark(brokenAt(), "broken");
  marks.append(element("i", undefined, { class: "now", id: "now" }));
  $("map").replaceChildren(marks);
}

// ---- the picture

const fateOf = (checkpoint) => (checkpoint.complete ? "complete" : checkpoint.until === null ? "under-way" : "given-up");
function draw() {
  const view = $("view"), head = $("lanes").offsetHeight;
  const first = Math.max(0, Math.min(rows.length - 1, Math.floor((view.scrollTop - head) / rowHeight) - OVERSCAN));
  const last = Math.min(rows.length - 1, Math.ceil((view.scrollTop + view.clientHeight) / rowHeight) + OVERSCAN);
  const top = first * rowHeight, y = (row) => row * rowHeight + rowHeight / 2 - top, here = rowOf[current], broken = brokenAt(), parts = partsHere(), marked = new Set(productionHere().map(({ step }) => rowOf[step]));
  const canvas = svg("svg", { width, height: Math.max(1, (last - first + 1) * rowHeight + 12), "aria-hidden": "true" });
  canvas.style.top = `${top}px`;
  const band = (style, row, x = 0, wide = width) => canvas.append(svg("rect", { class: style, x, y: y(row) - rowHeight / 2, width: wide, height: rowHeight }));
  for (let row = first; row <= last; row++) {
    const breaks = broken !== null && rowOf[broken] === row;
    if (breaks && !told.compare) band(row === here ? "broken-row now" : "broken-row", row);
    else if (row === here) band("here", row);
    else if (row % 2) band("shade", row);
    if (parts && rowOf[parts.step] === row) band("apart-edge", row, 0, 5);
    if (breaks) band(told.compare ? "apart-edge" : "broken-edge", row, 0, 5);
    if (marked.has(row)) band("production-edge", row, 6, 4);
  }
  for (const one of sides) drawSide(canvas, one, first, last, y);
  if (sides.length > 1) canvas.append(svg("line", { class: "split", x1: sides[1].x - 7, x2: sides[1].x - 7, y1: 0, y2: (last - first + 1) * rowHeight }));
  if (rowHeight >= 11) for (let row = first; row <= last; row++) drawText(canvas, rows[row], y(row), broken !== null && rowOf[broken] === row);
  if (drawn) drawn.replaceWith(canvas); else $("rows").append(canvas);
  drawn = canvas;
  const now = $("now");
  if (now) now.style.top = `${(100 * here) / rows.length}%`;
}
function drawSide(canvas, one, first, last, y) {
  const { scene } = one, steps = scene.steps.length, rowAt = (step) => rowOf[one.placeOf[step]];
  const until = (what) => what.until ?? steps, clamp = (row) => Math.max(first - 1, Math.min(last + 1, row));
  scene.lanes.forEach((_, lane) => canvas.append(svg("line", { class: "rail", x1: laneX(one, lane), x2: laneX(one, lane), y1: Math.max(0, y(0)), y2: y(last) + rowHeight / 2 })));
  scene.lives.forEach((life, number) => {
    const from = rowAt(life.from), end = rowAt(until(life));
    if (end < first || from > last) return;
    const x = laneX(one, life.lane), at = y(clamp(from)), to = y(clamp(end)) + (life.until === null ? rowHeight / 2 : 0);
    const bar = svg("rect", { class: life.old ? "old-life" : `life-${scene.lanes[life.lane].kind}`, x: x - (life.old ? 11 : 8), y: at, width: life.old ? 22 : 16, height: Math.max(3, to - at), rx: 4 });
    bar.append(svg("title", {}, cut(life.label, 300)));
    canvas.append(bar);
    if (life.crashed && end <= last) canvas.append(svg("path", { class: "crash", d: `M${x - 8} ${y(end) - 8}l16 16M${x + 8} ${y(end) - 8}l-16 16` }));
    if (from >= first && rowHeight >= 14 && one.lane >= 58) canvas.append(svg("text", { class: "life", x: x + 12, y: at - 2 }, cut(life.label, Math.floor((one.lane - 14) / 5.6) + (number ? 0 : 1))));
  });
  // Checkpoints in the margin; those in progress together side by side.
  if (one.number === 0) scene.checkpoints.forEach((checkpoint, number) => {
    const from = rowAt(checkpoint.from), end = rowAt(until(checkpoint));
    if (end < first || from > last) return;
    const bar = svg("rect", { class: `span ${fateOf(checkpoint)}`, x: gutter - 17 + 5 * (number % 3), y: y(clamp(from)), width: 3, height: Math.max(3, y(clamp(end)) - y(clamp(from))), rx: 1.5 });
    bar.append(svg("title", {}, `checkpoint ${checkpoint.id}: ${words(fateOf(checkpoint))}`));
    canvas.append(bar);
  });
  for (const hold of scene.holds) {
    const from = rowAt(hold.from), end = rowAt(until(hold));
    if (end < first || from > last) continue;
    const at = y(clamp(from)), edge = svg("rect", { class: "hold", x: laneX(one, hold.lane) + (hold.feeder < hold.lane ? -13 : 9), y: at, width: 4, height: Math.max(5, y(clamp(end)) - at), rx: 2 });
    edge.append(svg("title", {}, `${cut(scene.lanes[hold.lane].name, 80)} does not read its input from ${cut(scene.lanes[hold.feeder].name, 80)}: it is held`));
    canvas.append(edge);
  }
  const fromStep = Math.max(0, one.lastAt[rows[first].from] - 1), untilStep = one.lastAt[rows[last].until], chosen = new Set();
  for (let block = Math.floor(fromStep / BLOCK); block <= Math.floor(untilStep / BLOCK); block++) for (const place of one.blocks[block]) chosen.add(place);
  let budget = 3000;
  const labels = [];
  for (const place of chosen) {
    const arrow = scene.arrows[place];
    if (arrow.until < fromStep || arrow.sent > untilStep || budget-- <= 0) continue;
    drawArrow(canvas, one, arrow, y, rowAt, labels);
  }
  for (let row = first; row <= last; row++) {
    const { from, until: end, folded } = rows[row];
    const step = folded ? one.stepAt[end] : one.stepAt[from];
    if (step > 0 && !folded) {
      const at = scene.steps[step - 1];
      canvas.append(svg("circle", { class: at.fault ? "dot fault" : "dot", cx: laneX(one, at.lane), cy: y(row), r: Math.max(2, Math.min(5, rowHeight / 4)) }));
    }
  }
  canvas.append(...labels);
}
function drawArrow(canvas, one, arrow, y, rowAt, labels) {
  const from = [laneX(one, arrow.from), y(rowAt(arrow.sent))], to = [laneX(one, arrow.to), y(rowAt(arrow.until))];
  const arrives = !["lost", "under-way"].includes(arrow.fate), part = arrives ? 1 : 0.6;
  // Within a folded row there is no before and after to show.
  if (arrow.from === arrow.to || rowAt(arrow.sent) === rowAt(arrow.until) && rows[rowAt(arrow.sent)].folded) return;
  // From the edge of a bar to the edge of the other; what does not arrive ends on its way.
  const way = Math.sign(to[0] - from[0]) * 8, start = [from[0] + way, from[1]];
  const tip = [start[0] + (to[0] - way - start[0]) * part, start[1] + (to[1] - start[1]) * part];
  const step = one.lastAt[current], near = current > 0 && one.stepAt[current] === step && (arrow.sent === step || arrow.until === step);
  const style = `${arrow.kind} ${arrow.fate === "under-way" ? "going" : arrow.fate}${near ? " near" : ""}`;
  const line = svg("path", { class: `arrow ${style}`, d: `M${start}L${tip}` });
  line.append(svg("title", {}, `${cut(arrow.label, 200)}: ${words(arrow.fate)}`));
  canvas.append(line);
  const angle = Math.atan2(tip[1] - start[1], tip[0] - start[0]), size = near ? 10 : 8;
  const turn = (by) => [tip[0] - size * Math.cos(angle + by), tip[1] - size * Math.sin(angle + by)];
  if (arrow.fate === "lost" || arrow.fate === "failed") canvas.append(svg("path", { class: "crash", d: `M${tip[0] - 5} ${tip[1] - 5}l10 10M${tip[0] + 5} ${tip[1] - 5}l-10 10` }));
  else canvas.append(svg("path", { class: `head ${style}`, d: `M${tip}L${turn(0.42)}L${turn(-0.42)}Z` }));
  if (near && rowHeight >= 14 && labels.length < 24) {
    const ends = arrow.fate === "arrived" || arrow.fate === "under-way" ? "" : ` (${words(arrow.fate)})`;
    label(labels, cut(arrow.label, 40) + ends, (start[0] + tip[0]) / 2, (start[1] + tip[1]) / 2 - 4);
  }
}
/** Puts a label where no other is yet, nor the sentences. */
function label(labels, text, x, y) {
  const wide = text.length * 6.4, middle = Math.max(gutter + wide / 2, Math.min(textAt - 8 - wide / 2, x));
  const taken = (at) => labels.some((it) => Math.abs(it.at[1] - at) < 12 && Math.abs(it.at[0] - middle) < (it.wide + wide) / 2 + 4);
  let at = y;
  for (let tries = 1; taken(at) && tries < 12; tries++) at = y + 12.5 * Math.ceil(tries / 2) * (tries % 2 ? 1 : -1);
  const made = svg("text", { class: "label", x: middle, y: at, "text-anchor": "middle" }, text);
  labels.push(Object.assign(made, { at: [middle, at], wide }));
}
function drawText(canvas, row, y, breaks) {
  const { from, until, about, folded } = row, two = rowHeight >= 34;
  canvas.append(svg("text", { class: "number", x: gutter - 22, y: y + 4 }, folded ? `▸${until}` : from));
  const room = width - textAt - 14;
  const say = (style, text, line, actor = "") => {
    const most = Math.floor((room - actor.length * 7.4) / (style === "follow" ? 6 : style === "fault" ? 7.1 : 6.5));
    const made = svg("text", { class: style, x: textAt, y: y + 4 + line });
    if (actor) made.append(svg("tspan", { class: "actor" }, `${cut(actor, 40)} `));
    made.append(cut(text, Math.max(4, most)));
    canvas.append(made);
  };
  if (from === 0) return say(breaks ? "fault" : "folded", breaks ? "✗ the start" : "the start", 0);
  if (folded) {
    const fate = sides[0].scene.checkpoints.find(({ id }) => id === about);
    return say("folded", `${until - from + 1} steps${about === null ? "" : ` of checkpoint ${about}${fate ? `: ${words(fateOf(fate))}` : ""}`}`, 0);
  }
  const happened = stepsAt(from), [[one, step]] = happened;
  const same = happened.length === sides.length && happened.every(([, other]) => other.text === step.text && other.actor === step.actor);
  if (same || happened.length === 1) {
    const [what, ...follows] = step.text.split("; "), only = happened.length < sides.length ? `${one.number ? "right" : "left"} only: ` : "";
    const stands = breaks && !told.compare, stamp = stands ? "✗ " : only ? only : step.fault ? "! " : "";
    say(step.fault || stands || only ? "fault" : "", what, two && follows.length ? -8 : 0, stamp + step.actor);
    if (two && follows.length) say("follow", `→ ${follows.join("; ")}`, 9);
  } else happened.forEach(([, other], at) => {
    if (two || at === 0) say("", other.text, two ? at * 17 - 8 : 0, `${at ? "right" : two ? "left" : "differ"}: ${other.actor}`);
  });
}

// ---- the panel

function tell() {
  const row = rows[rowOf[current]], folded = row.folded && row.until === current, before = (folded ? row.from : current) - 1;
  $("where").textContent = `step ${current} of ${places}`;
  const step = $("step");
  step.replaceChildren();
  if (folded) step.append(element("p", `${row.until - row.from + 1} steps folded into one row${row.about === null ? "" : `, of checkpoint ${row.about}`}. Enter opens it. What changed over all of them:`, { class: "told" }));
  else if (current === 0) step.append(...opening());
  else for (const one of sides) {
    const box = element("div", undefined, sides.length > 1 ? { class: "side" } : {}), at = one.scene.steps[one.stepAt[current] - 1];
    if (sides.length > 1) box.append(element("p", one.label, { class: "number" }));
    if (at) {
      const [what, ...follows] = at.text.split("; "), said = element("p", undefined, { class: at.fault ? "told fault" : "told" });
      said.append(element("strong", `${at.actor} `), what);
      if (at.fault) said.append(element("span", one.scene.broken && one.scene.broken.law === null && one.scene.broken.step === one.stepAt[current] ? "deviates from the protocol" : "fault", { class: "tag" }));
      box.append(said, ...follows.map((text) => element("p", `→  ${text}`, { class: "follow" })));
    } else box.append(element("p", current > 0 ? "This step is not possible here, or has no counterpart." : "", { class: "told fault" }));
    step.append(box);
  }
  law();
  const parts = partsHere(), apart = told.compare ? told.compare.first === current : parts && parts.step === current;
  $("difference").hidden = !apart;
  $("difference").replaceChildren(...(apart ? [element("strong", told.compare ? "The first difference" : "Here the wrong rule shows"),
    ...(told.compare || parts).says.split("; ").map((text) => element("p", text))] : []));
  const produced = productionHere().filter(({ step }) => step === current);
  $("on-production").hidden = !produced.length;
  $("on-production").replaceChildren(...(produced.length ? [element("strong", "On production code"), ...produced.map(({ says }) => element("p", says))] : []));
  const happened = folded ? [] : stepsAt(current);
  $("clause").replaceChildren(...[...new Set(happened.map(([, at]) => at.clause))].map((name) => clause(name, `SPEC ${name}, which this step is about`, "step")));
  const list = element("table");
  for (const [one, , number] of happened) for (const place of one.touching[number].slice(0, 60)) {
    const arrow = one.scene.arrows[place], line = element("tr");
    const what = arrow.sent === number ? (arrow.until === number && arrow.fate !== "under-way" ? `sent, ${arrow.fate}` : "sent") : arrow.fate;
    const names = one.scene.lanes, side = sides.length > 1 ? `${one.number ? "right" : "left"}: ` : "";
    line.append(element("td", side + words(what)), element("td", `${arrow.label}: ${names[arrow.from].name} → ${names[arrow.to].name}`));
    list.append(line);
  }
  $("traffic").hidden = !list.children.length;
  $("traffic").replaceChildren(element("h2", "Sent and received"), list);
  states(before);
  $("ending").textContent = sides.map((one) => (sides.length > 1 ? `${one.label}\n${one.scene.ending}` : one.scene.ending)).join("\n");
}
/** The introduction before the first step. */
function opening() {
  const { scene } = sides[0], { broken } = scene, tasks = scene.lanes.filter(({ kind }) => kind === "task").map(({ name }) => name);
  const say = (text, style) => element("p", text, { class: style });
  const who = `Records go through ${tasks.length > 12 ? `${tasks.length} tasks` : tasks.join(", ")}. The coordinator triggers checkpoints, storage keeps them, and an external system receives each sink's output.`;
  const about = told.compare ? ["Two runs side by side. A side stays empty where the step of the other has no counterpart or is not possible."]
    : scene.wrong_rule ? [`In this run one rule of the protocol is wrong on purpose: ${scene.wrong_rule[1]}`] : [];
  const end = told.compare ? told.compare.first ? [`They differ from step ${told.compare.first} on.`] : ["They do not differ."]
    : broken ? [`Step ${broken.step} breaks ${broken.law === null ? `the rule ${broken.name}` : `L${broken.law} ${words(broken.name)}`}: ${broken.says}.`] : ["No law is broken in it."];
  return [say("The start", "told"), ...about.map((text) => say(text, "")), say(who, ""), ...end.map((text) => say(text, "")), say(`Continue with j or →${brokenAt() === null ? "" : `, or jump to ${told.compare ? "the first difference" : "the violation"} with v`}. “keys” explains words and colours.`, "follow")];
}
/** A clause that is open at one step, or for one law, is open at the next one too; the picture stays where it is. */
const reading = { step: false, law: false };
function clause(name, title, which) {
  const box = element("details", undefined, { class: "clause" }), summary = element("summary", title);
  box.open = reading[which];
  summary.addEventListener("click", () => { reading[which] = !box.open; });
  box.append(summary, clauseText(name));
  return box;
}
/** What a clause says. The clauses that it refers to open below it. */
function clauseText(name) {
  const text = element("p");
  for (const part of (told.clauses[name] ?? "It is not in this page; see SPEC.md.").split(/(?<![\d.])(\d+\.\d+)(?!\.?\d)/)) {
    if (!Object.hasOwn(told.clauses, part) || part === name) { text.append(part); continue; }
    const open = element("button", part, { title: `read ${part} here`, "aria-expanded": "false" });
    let below = null;
    open.addEventListener("click", () => {
      if (below) below.remove();
      below = below ? null : element("div", undefined, { class: "below" });
      if (below) { below.append(element("b", `SPEC ${part}`), clauseText(part)); text.after(below); }
      open.setAttribute("aria-expanded", String(below !== null));
    });
    text.append(open);
  }
  return text;
}
function law() {
  const { broken } = sides[0].scene, here = broken && current >= broken.step;
  $("law").hidden = !here;
  if (!here) return;
  const title = broken.law === null ? `rule ${broken.name}` : `L${broken.law} ${words(broken.name)}`, name = broken.law === null ? "11.9" : `9.${broken.law}`;
  const line = element("p");
  line.append(element("strong", current === broken.step ? `Here ${title} is broken` : `${title} has been broken since step ${broken.step}`), `: ${broken.says}`);
  $("law").replaceChildren(line, clause(name, `SPEC ${name}, in full`, "law"));
}
function states(before) {
  const state = $("state"), open = new Set([...state.querySelectorAll("details[open]")].map((it) => it.dataset.key)), closed = new Set([...state.querySelectorAll("details:not([open])[data-by-hand]")].map((it) => it.dataset.key));
  const fresh = document.createDocumentFragment();
  for (const one of sides) one.scene.lanes.forEach((lane, place) => {
    const now = factAt(one, place, one.lastAt[current]), was = current > 0 ? factAt(one, place, one.lastAt[Math.max(0, before)]) : null;
    const other = sides.length > 1 ? factAt(sides[1 - one.number], place, sides[1 - one.number].lastAt[current]) : null;
    if (!now || sides.length > 1 && one.number === 1 && JSON.stringify(now) === JSON.stringify(other)) return;
    const old = new Map(was ?? []), their = other && new Map(other);
    const raw = (name) => /(^|: )machine$/.test(name) || /(^|: )committer$/.test(name) && now.some(([, value]) => value.length > 80);
    const changed = was && was !== now ? now.filter(([name, value]) => old.get(name) !== value) : [];
    const key = `${one.number}:${place}`, details = element("details", undefined, { "data-key": key }), summary = element("summary");
    const notes = changed.filter(([name]) => !raw(name)).map(([name, value]) => `${name}: ${value}`);
    summary.append(element("b", (sides.length > 1 ? `${one.number ? "right" : "left"}: ` : "") + lane.name), element("span", notes.length ? `   ${cut(notes.join("; "), 160)}` : ""));
    const table = element("table");
    for (const [name, value] of now) {
      const moved = changed.length > 0 && old.get(name) !== value, apart = their && their.get(name) !== value;
      const line = element("tr", undefined, { class: `${raw(name) ? "raw " : ""}${moved && !raw(name) ? "changed" : apart && !raw(name) ? "apart" : ""}` }), cell = element("td");
      if (moved && !raw(name) && old.get(name)) cell.append(element("del", cut(old.get(name), 200)));
      cell.append(value);
      line.append(element("td", name), cell);
      table.append(line);
    }
    details.append(summary, table);
    details.open = notes.length > 0 && !closed.has(key) || open.has(key) && was === now && details.dataset.byHand !== undefined;
    summary.addEventListener("click", () => { details.dataset.byHand = ""; });
    fresh.append(details);
  });
  state.replaceChildren(fresh);
}

// ---- going about

function go(place, scroll = true, open = true) {
  current = Math.max(0, Math.min(places, place));
  const row = rows[rowOf[current]], view = $("view");
  if (open && row && row.folded && current !== row.until) { opened.add(row.from); layOut(); }
  if (scroll) {
    const head = $("lanes").offsetHeight, at = rowOf[current] * rowHeight, seen = view.clientHeight - head;
    if (at < view.scrollTop + rowHeight) view.scrollTop = Math.max(0, at - seen / 4);
    else if (at > view.scrollTop + seen - 2 * rowHeight) view.scrollTop = at - (seen * 3) / 4;
  }
  try { history.replaceState(null, "", `#step=${current}`); } catch { /* Some viewers forbid it; the page works without. */ }
  tell();
  draw();
}
function onward(by) {
  const row = rowOf[current] + by;
  // Within an opened or unfolded row there is one place; a folded one is gone through in one step, and left at its end.
  if (by < 0 && rows[rowOf[current]].from < current && !rows[rowOf[current]].folded) return go(rows[rowOf[current]].from);
  if (row >= 0 && row < rows.length) go(rows[row].until, true, false);
  else stop();
}
function toggle(at = rowOf[current]) {
  const row = rows[at];
  if (row.folded) { opened.add(row.from); layOut(); go(row.from); return; }
  const group = groups.find(({ from, until }) => from <= row.from && row.from <= until);
  if (group && opened.delete(group.from)) { layOut(); go(group.until, true, false); }
}
function stop() { clearInterval(playing); playing = null; $("play").textContent = "▶"; }
function play() {
  if (playing) return stop();
  if (current >= places) go(0);
  $("play").textContent = "❚❚";
  playing = setInterval(() => (rowOf[current] < rows.length - 1 ? onward(1) : stop()), 900);
}
function search() {
  const text = $("search").value.trim().toLowerCase();
  matches = [];
  if (text) for (let place = 1; place <= places; place++) if (stepsAt(place).some(([, step]) => `${step.actor} ${step.text}`.toLowerCase().includes(text))) matches.push(place);
  $("found").textContent = text ? `${matches.length}` : "";
}
function toMatch(by) {
  const ahead = by > 0 ? matches.find((place) => place > current) ?? matches[0] : matches.findLast((place) => place < current) ?? matches[matches.length - 1];
  if (ahead !== undefined) go(ahead);
}
function zoomTo(height) {
  rowHeight = Math.max(NARROW, Math.min(TALL, height));
  $("zoom").value = rowHeight;
  layOut();
  go(current);
}
function nextEnd() {
  const ends = sides.flatMap((one) => one.scene.checkpoints.map(({ until }) => (until === null ? 0 : one.placeOf[until]))).filter((place) => place > current);
  if (ends.length) go(Math.min(...ends));
}
function again() { layOut(); go(current, true, false); }
function themed(dark) { document.documentElement.dataset.theme = dark ? "dark" : "light"; }
const keys = {
  j: () => onward(1), ArrowRight: () => onward(1), ArrowDown: () => onward(1), k: () => onward(-1), ArrowLeft: () => onward(-1), ArrowUp: () => onward(-1),
  Home: () => go(0), End: () => go(places), PageDown: () => go(rows[Math.min(rows.length - 1, rowOf[current] + 20)].until, true, false), PageUp: () => go(rows[Math.max(0, rowOf[current] - 20)].until, true, false),
  p: () => partsHere() && go(partsHere().step), " ": play, v: () => brokenAt() !== null && go(brokenAt()), c: nextEnd, n: () => toMatch(1), N: () => toMatch(-1), Enter: () => toggle(),
  f: () => { $("fold").checked = !$("fold").checked; again(); }, "+": () => zoomTo(rowHeight + 4), "=": () => zoomTo(rowHeight + 4), "-": () => zoomTo(rowHeight - 4),
  d: () => themed(document.documentElement.dataset.theme !== "dark"), "/": () => $("search").focus(), "?": () => { $("keys").showModal(); $("keys").scrollTop = 0; },
  Escape: () => { for (const id of ["by-checkpoint", "by-lane", "by-kind", "search"]) $(id).value = ""; search(); again(); },
};
function fromAddress() {
  const named = /^#step=(\d{1,9})$/.exec(location.hash);
  return named ? Number(named[1]) : null;
}

// ---- showing a document

function choose(id, all, choices) {
  $(id).replaceChildren(element("option", all, { value: "" }), ...choices.map(([value, text]) => element("option", cut(text, 60), { value })));
}
function show(it, at = null) {
  stop();
  check(it);
  told = it;
  begin(0, at);
  $("wrong").hidden = true;
}
/** Shows one of the document's stories, or both where two are compared. */
function begin(story, at) {
  const { compare } = told, chosen = compare ? told.stories : [told.stories[story]];
  sides = chosen.map((one, number) => ({ ...side(one, number), story: compare ? number : story }));
  places = compare ? compare.rows.length : sides[0].scene.steps.length;
  for (const one of sides) {
    one.stepAt = new Array(places + 1).fill(0);
    one.lastAt = new Array(places + 1).fill(0);
    one.placeOf = new Array(one.scene.steps.length + 1).fill(0);
    for (let place = 1; place <= places; place++) {
      const step = compare ? compare.rows[place - 1][one.number] : place;
      one.stepAt[place] = step;
      one.lastAt[place] = step || one.lastAt[place - 1];
      if (step) one.placeOf[step] = place;
    }
  }
  const { scene } = sides[0], { broken } = scene;
  const title = scene.wrong_rule ? scene.wrong_rule[0] : scene.title;
  document.title = `${cut(title, 100)}: snapline trace`;
  $("title").textContent = cut(title, 200);
  $("rule").textContent = scene.wrong_rule ? `the protocol with one wrong rule: ${cut(scene.wrong_rule[1], 400)}` : "";
  const first = compare && compare.first;
  $("verdict").hidden = !broken && !first;
  $("breach").textContent = first ? `First difference at step ${first}:` : broken ? (broken.law === null ? `Step ${broken.step} breaks the rule ${broken.name}:` : `Step ${broken.step} breaks L${broken.law} ${words(broken.name)}:`) : "";
  $("says").textContent = cut(first ? compare.says : broken ? broken.says : "", 600);
  const parts = partsHere(), shows = parts !== null;
  $("parts").hidden = !shows;
  $("parting").textContent = shows ? cut(`The wrong rule shows first at step ${parts.step}: ${parts.says}`, 300) : "";
  $("tabs").replaceChildren(...(compare || told.stories.length < 2 ? [] : told.stories.map(({ label }, number) => {
    const button = element("button", cut(label, 80), { "aria-pressed": number === story });
    button.addEventListener("click", () => begin(number, 0));
    return button;
  })));
  choose("by-checkpoint", "every checkpoint", scene.checkpoints.map(({ id }) => [id, `checkpoint ${id}`]));
  choose("by-lane", "everybody", scene.lanes.map((lane, place) => [place, lane.name]));
  choose("by-kind", "every kind", [...new Set(scene.steps.map((step) => step.kind))].sort().map((kind) => [kind, words(kind)]));
  // Of many, those that did not complete are of interest.
  const many = scene.checkpoints.length > 40, done = scene.checkpoints.filter(({ complete }) => complete).length;
  const listed = many ? scene.checkpoints.filter(({ complete }) => !complete).slice(0, 200) : scene.checkpoints;
  $("fates").replaceChildren(...(many ? [element("span", `${done} of ${scene.checkpoints.length} checkpoints complete`, { class: "chip complete" })] : []), ...listed.map((checkpoint) => {
    const button = element("button", `checkpoint ${checkpoint.id}: ${words(fateOf(checkpoint))}`, { class: fateOf(checkpoint) });
    button.addEventListener("click", () => go(sides[0].placeOf[checkpoint.until ?? checkpoint.from]));
    return button;
  }));
  const commands = told.commands.flatMap(([what, command]) => [element("p", what), element("pre", command)]);
  const produced = told.production.filter(({ story: of }) => compare || of === story).map(({ says, step }) => {
    const line = element("p", says, { class: "produced" });
    if (step === null) return line;
    const button = element("button", `go to step ${step}`);
    button.addEventListener("click", () => go(step));
    line.append(" ", button);
    return line;
  });
  $("commands").replaceChildren(...commands, ...produced);
  $("again").hidden = !$("commands").children.length;
  opened = new Set();
  matches = [];
  $("search").value = "";
  search();
  $("fold").checked = places > 300;
  rowHeight = places <= 40 ? 40 : 24;
  $("zoom").value = rowHeight;
  $("state").replaceChildren();
  measure();
  findGroups();
  layOut();
  go(at ?? fromAddress() ?? 0);
}
function legend() {
  const all = [["record", "arrived", "a record"], ["barrier", "arrived", "a barrier"], ["control", "arrived", "a control message"], ["write", "arrived", "a write to storage"], ["commit", "arrived", "a transaction prepared or committed"],
    ["control", "lost", "lost: it never arrives"], ["control", "twice", "delivered twice"], ["control", "late", "delayed: others arrived first"], ["control", "ignored", "arrived, and was ignored"], ["write", "failed", "failed, or of unknown outcome"], ["control", "going", "still in flight at the end"]];
  $("legend").append(...all.map(([kind, fate, text]) => {
    const line = element("div"), picture = svg("svg", { width: 46, height: 14 });
    picture.append(svg("path", { class: `arrow ${kind} ${fate}`, d: "M2 7L36 7" }));
    picture.append(fate === "lost" || fate === "failed" ? svg("path", { class: "crash", d: "M32 2l10 10M42 2l-10 10" }) : svg("path", { class: `head ${kind} ${fate}`, d: "M44 7L34 3L34 11Z" }));
    line.append(picture, text);
    return line;
  }));
}
function listen() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], select");
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open || !sides) return;
    if (typing && event.key === "Enter") { toMatch(1); $("view").focus(); event.preventDefault(); return; }
    if (typing && event.key !== "Escape" || event.target.matches("button, summary") && (event.key === " " || event.key === "Enter")) return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); if (typing) $("view").focus(); }
  });
  const buttons = { first: keys.Home, back: keys.k, play, next: keys.j, last: keys.End, violation: keys.v, wrongly: keys.p, help: keys["?"], theme: keys.d };
  for (const [id, act] of Object.entries(buttons)) $(id).addEventListener("click", act);
  for (const id of ["fold", "by-checkpoint", "by-lane", "by-kind"]) $(id).addEventListener("change", again);
  $("zoom").addEventListener("input", () => zoomTo(Number($("zoom").value)));
  $("search").addEventListener("input", search);
  let waiting = false;
  const soon = (act) => () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; if (sides) act(); }); } };
  $("view").addEventListener("scroll", soon(draw));
  addEventListener("resize", soon(() => { measure(); again(); }));
  addEventListener("hashchange", () => { const place = fromAddress(); if (sides && place !== null && place !== current) go(place); });
  $("rows").addEventListener("click", (event) => {
    const at = Math.floor((event.clientY - $("rows").getBoundingClientRect().top) / rowHeight);
    if (!rows[at]) return;
    if (rows[at].folded && rowOf[current] === at) toggle(at); else go(rows[at].until, false, false);
    $("view").focus();
  });
  $("map").addEventListener("click", (event) => {
    const box = $("map").getBoundingClientRect(), at = Math.floor(((event.clientY - box.top) / box.height) * rows.length);
    if (rows[at]) go(rows[at].until, true, false);
  });
}
/** Says what is wrong with a document, and shows nothing of it. */
function refuse(error) {
  $("wrong").hidden = false;
  $("wrong").textContent = `This cannot be shown: ${cut(String(error && error.message || error), 400)}`;
}
themed(matchMedia("(prefers-color-scheme: dark)").matches);
legend();
listen();
try { show(JSON.parse($("document").textContent)); $("view").focus(); } catch (error) { refuse(error); }
