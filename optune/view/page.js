"use strict";
// Shows the data of the block `data`. Every text of it becomes a text node: no part of it is ever read as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs;
const TWO = RUNS.length === 2;
const LETTERS = TWO ? ["A", "B"] : [""];
const PER_PAGE = 10;
const LARGEST_DIFFERENCE = 4e6; // pairs of words; longer texts are shown without marks
const PHASES = [["generate", "sampling", "a"], ["score", "rewarding", "c"], ["train", "training", "b"], ["kl", "KL", "e"], ["validate", "validation", "d"], ["outcome", "outcome", "f"]];

// --- small things ---------------------------------------------------------------------------------------------------

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
function svg(name, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}
const $ = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const whole = (value) => (known(value) ? Math.round(value).toLocaleString("en").replace("-", "−") : "–");
const percent = (value) => (known(value) ? `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)}%` : "–");
function number(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return whole(value);
  const text = value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 0.1 || size === 0 ? 2 : 3);
  return text.replace("-", "−");
}
const signed = (value) => (known(value) && value > 0 ? `+${number(value)}` : number(value));
function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
const ordinal = (n) => {
  const rest = n % 100;
  return whole(n) + (rest > 10 && rest < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] || "th");
};
const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);
const runName = (i) => (TWO ? `${LETTERS[i]}: ${RUNS[i].name}` : RUNS[i].name);
const head = (id, title) => el("h2", { id: `${id}-title` }, title);

// --- drawings: made for the width they have, and again when it changes ----------------------------------------------

function chart(title, caption, keys, draw, wide = false) {
  const place = el("div");
  const figure = el("figure", { class: wide ? "wide" : "" }, el("h3", {}, title), legend(keys), place, el("figcaption", {}, caption));
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(place.clientWidth);
    if (now < 50 || now === width) return;
    width = now;
    const drawing = draw(width);
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", `${title}. ${caption}`);
    place.replaceChildren(drawing);
  }).observe(place);
  return figure;
}
const legend = (keys) => (keys.length > 1 ? el("div", { class: "legend" }, ...keys.map(([name, key]) => el("span", { class: `key-${key}` }, name))) : null);
function canvas(width, height) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height });
}
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}
const tickText = (value) => (Math.abs(value) >= 1000 ? whole(value) : String(+value.toPrecision(4)).replace("-", "−"));

// A frame with a vertical scale from low to high and one column per label; returns what draws into it.
function frame(width, low, high, labels, height = 210) {
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const room = (high - low) * 0.06;
  const [bottom, top] = [low === 0 ? 0 : low - room, high + room];
  const marks = ticks(bottom, top, 4);
  const left = 12 + 7.2 * Math.max(...marks.map((m) => tickText(m).length));
  const drawing = canvas(width, height);
  const y = (value) => 8 + ((top - value) / (top - bottom)) * (height - 34);
  const column = (width - left - 6) / labels.length;
  const x = (i) => left + column * (i + 0.5);
  for (const mark of marks) {
    drawing.append(svg("line", { x1: left, x2: width, y1: y(mark), y2: y(mark), class: "grid" }));
    drawing.append(svg("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, tickText(mark)));
  }
  const every = Math.ceil((labels.length * 26) / (width - left));
  labels.forEach((label, i) => {
    if (i % every === 0) drawing.append(svg("text", { x: x(i), y: height - 4, "text-anchor": "middle" }, String(label)));
  });
  return { drawing, x, y, column };
}

// One box for each series and label: a thin line from 5% to 95%, a thick one over the middle half, a dot at the median.
function boxes(width, labels, series) {
  const all = series.flatMap((s) => s.items).filter(known).flatMap((s) => [s.q[0], s.q[4]]);
  const { drawing, x, y, column } = frame(width, Math.min(...all), Math.max(...all), labels);
  const step = Math.min(22, column / (series.length + 1));
  series.forEach((one, s) => one.items.forEach((item, i) => {
    if (!known(item)) return;
    const at = x(i) + (s - (series.length - 1) / 2) * step;
    const thick = Math.min(12, step * 0.75);
    drawing.append(svg("line", { x1: at, x2: at, y1: y(item.q[0]), y2: y(item.q[4]), class: `line-${one.key}` }));
    drawing.append(svg("rect", { x: at - thick / 2, width: thick, y: y(item.q[3]), height: Math.max(1, y(item.q[1]) - y(item.q[3])), class: `fill-${one.key} pale` }));
    const dot = svg("circle", { cx: at, cy: y(item.q[2]), r: 3.5, class: `fill-${one.key}` });
    dot.append(svg("title", {}, `${one.name}, ${labels[i]}: median ${number(item.q[2])}, mean ${number(item.mean)}, middle half ${number(item.q[1])} to ${number(item.q[3])}, of ${whole(item.n)}`));
    drawing.append(dot);
  }));
  return drawing;
}

// Lines through values, with intervals where points have `low` and `high`.
function lines(width, labels, series, fromZero = false) {
  const points = series.flatMap((s) => s.points).filter((p) => known(p.y));
  const all = points.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]).concat(fromZero ? [0] : []);
  const { drawing, x, y } = frame(width, Math.min(...all), Math.max(...all), labels);
  for (const one of series) {
    const there = one.points.filter((p) => known(p.y));
    drawing.append(svg("polyline", { points: there.map((p) => `${x(p.at)},${y(p.y)}`).join(" "), class: `line-${one.key}` }));
    for (const p of there) {
      if (known(p.low) && known(p.high)) drawing.append(svg("line", { x1: x(p.at), x2: x(p.at), y1: y(p.low), y2: y(p.high), class: `line-${one.key} pale` }));
      const dot = svg("circle", { cx: x(p.at), cy: y(p.y), r: 3.5, class: `fill-${one.key}` });
      dot.append(svg("title", {}, `${one.name}, ${labels[p.at]}: ${number(p.y)}` + (known(p.low) ? ` (${number(p.low)} to ${number(p.high)})` : "")));
      drawing.append(dot);
    }
  }
  return drawing;
}

// One bar per row, of parts beside each other; the last part, what was saved, is an outline.
function bars(width, rows, text) {
  const height = 30;
  const drawing = canvas(width, rows.length * height + 4);
  const largest = Math.max(...rows.map((row) => sum(row.parts.map((p) => p[1])) + row.saved), 1e-9);
  const left = 10 + 7 * Math.max(...rows.map((row) => row.label.length));
  const longest = Math.max(...rows.map((row) => text(row).length));
  const scale = Math.max(10, width - left - 7 * longest - 14) / largest;
  rows.forEach((row, i) => {
    let at = left;
    const y = i * height + 5;
    drawing.append(svg("text", { x: 0, y: y + 15 }, row.label));
    for (const [name, value, key] of row.parts) {
      const part = svg("rect", { x: at, y, width: value * scale, height: 20, class: `fill-${key}` });
      part.append(svg("title", {}, `${name}: ${row.show(value)}`));
      drawing.append(part);
      at += value * scale;
    }
    if (row.saved) {
      drawing.append(svg("rect", { x: at, y: y + 0.5, width: row.saved * scale, height: 19, class: "saved" }));
      at += row.saved * scale;
    }
    drawing.append(svg("text", { x: at + 7, y: y + 15 }, text(row)));
  });
  return drawing;
}

// A histogram per iteration, one below the other: fresh responses as bars, the newest of all prompts as a line.
function ridges(width, iterations, key) {
  const edges = DATA.edges;
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const tall = Math.max(46, Math.min(90, 300 / iterations.length));
  const drawing = canvas(width, iterations.length * (tall + 8) + 24);
  const left = 26;
  const x = (value) => left + ((value - low) / (high - low)) * (width - left - 12);
  const marks = ticks(low, high, Math.max(2, Math.min(6, width / 90)));
  for (const mark of marks) {
    drawing.append(svg("line", { x1: x(mark), x2: x(mark), y1: 4, y2: iterations.length * (tall + 8), class: "grid" }));
    drawing.append(svg("text", { x: x(mark), y: iterations.length * (tall + 8) + 18, "text-anchor": "middle" }, tickText(mark)));
  }
  iterations.forEach((it, i) => {
    const base = (i + 1) * (tall + 8) - 4;
    const shares = (s) => (s ? s.bins.map((count) => count / s.n) : []);
    const [fresh, latest] = [shares(it.fresh), shares(it.latest)];
    const top = Math.max(...fresh, ...latest, 1e-9);
    const y = (share) => base - (share / top) * tall * 0.95;
    drawing.append(svg("line", { x1: left, x2: width, y1: base, y2: base, class: "axis" }));
    drawing.append(svg("text", { x: 0, y: base - 2 }, String(it.t)));
    fresh.forEach((share, b) => drawing.append(svg("rect", { x: x(edges[b]) + 0.5, width: Math.max(1, x(edges[b + 1]) - x(edges[b]) - 1), y: y(share), height: base - y(share), class: `fill-${key} pale` })));
    const steps = latest.map((share, b) => `${x(edges[b])},${y(share)} ${x(edges[b + 1])},${y(share)}`);
    drawing.append(svg("polyline", { points: steps.join(" "), class: `line-${key}` }));
  });
  return drawing;
}

// --- the top: what this is, and the few numbers that matter most -----------------------------------------------------

function showTop() {
  $("title").textContent = TWO ? `${runName(0)} beside ${runName(1)}` : RUNS[0].name;
  $("state").textContent = RUNS.map((run, i) => `${TWO ? `${LETTERS[i]} is ` : ""}${stateOf(run)}`).join("; ") + `. Page made ${DATA.made}.`;
  const overview = $("overview");
  overview.append(head("overview", "At a glance"));
  RUNS.forEach((run, i) => {
    if (TWO) overview.append(el("h3", {}, runName(i)));
    overview.append(...run.told.map((sentence) => el("p", { class: "notice" }, sentence)));
    overview.append(el("div", { class: "tiles" }, ...tiles(run).map(([value, label]) => el("div", { class: "card tile" }, el("b", {}, value), el("span", {}, label)))));
  });
  overview.append(el("details", { class: "card" }, el("summary", {}, "Settings"), settings()));
}
function stateOf(run) {
  const [t, last, stage] = run.at;
  return run.finished ? `finished, ${t} iterations after iteration 0` : `not finished: iteration ${t} of ${last}, after “${stage}”`;
}
function tiles(run) {
  const its = run.iterations;
  const [first, last] = [its[0], its[its.length - 1]];
  const kl = its.filter((it) => known(it.kl)).pop();
  const saved = sum(its.map((it) => it.saved?.tokens));
  const tokens = sum(its.map((it) => it.tokens));
  const seconds = sum(its.flatMap((it) => Object.values(it.seconds)));
  return [
    [`${number(first.latest?.mean)} → ${number(last.latest?.mean)}`, `mean reward of every prompt’s newest responses, iteration ${first.t} and ${last.t}`],
    [whole(tokens), saved ? `tokens sampled; at ratio 1 about ${whole(tokens + saved)}, so that selection saved ${percent(saved / (tokens + saved))}` : "tokens sampled"],
    [duration(seconds), "of sampling, rewarding, training and measuring"],
    [percent(last.truncated), `of iteration ${last.t}’s responses were cut at the length limit (iteration ${first.t}: ${percent(first.truncated)})`],
    ...(run.best ? [[String(run.best.iteration), `is the best iteration by the held-out ${run.best.by}, ${number(run.best.value)}`]] : []),
    ...(kl ? [[klTold(kl), `nats per response: KL to the start after iteration ${kl.t}`]] : []),
  ];
}
function settings() {
  if (!TWO) return el("dl", {}, ...RUNS[0].settings.flatMap(([label, value]) => [el("dt", {}, label), el("dd", {}, value)]));
  const labels = [...new Set(RUNS.flatMap((run) => run.settings.map((s) => s[0])))];
  const cell = (run, label) => run.settings.find((s) => s[0] === label)?.[1] ?? "–";
  return table(["", ...LETTERS], labels.map((label) => [label, ...RUNS.map((run) => cell(run, label))]), "words");
}
function table(titles, rows, kind = "") {
  const body = rows.map((row) => el("tr", {}, ...row.map((cell) => (cell instanceof Node ? cell : el("td", {}, String(cell ?? "–"))))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, el("table", { class: kind }, el("thead", {}, el("tr", {}, ...titles.map((t) => el("th", { scope: "col" }, t)))), el("tbody", {}, ...body)));
}

// --- every iteration -------------------------------------------------------------------------------------------------

const HUES = ["a", "b"];
function showIterations() {
  const place = $("iterations");
  const labels = [...new Set(RUNS.flatMap((run) => run.labels))].sort((a, b) => a - b);
  const at = (run, t) => run.iterations.find((it) => it.t === t);
  const over = (pick) => RUNS.map((run, i) => ({ name: TWO ? LETTERS[i] : "", key: HUES[i], items: labels.map((t) => (at(run, t) ? pick(at(run, t)) : null)) }));
  const keysOf = (series) => series.map((s) => [s.name, s.key]);
  const measured = (pick) => RUNS.some((run) => run.iterations.some((it) => known(pick(it))));
  const asLines = (series) => series.map((s) => ({ ...s, points: s.items.map((y, i) => ({ at: i, y })) }));
  const charts = [];
  RUNS.forEach((run, i) => charts.push(chart(
    TWO ? `Rewards, ${LETTERS[i]}` : "Rewards",
    "A row per iteration. Bars: the responses it sampled. Line: every prompt’s newest responses, sampled or kept. Each row has its own height.",
    [["sampled in this iteration", HUES[i]], ["newest of all prompts", HUES[i]]].slice(0, 1),
    (width) => ridges(width, run.iterations, HUES[i]))));
  const sides = RUNS.flatMap((run, i) => [["chosen", "chosen", i ? "d" : "a"], ["rejected", "rejected", i ? "e" : "b"]].map(([name, field, key]) => ({
    name: TWO ? `${LETTERS[i]} ${name}` : name, key, items: labels.map((t) => at(run, t)?.[field] ?? null) })));
  if (measured((it) => it.chosen)) charts.push(chart("Chosen against rejected", "Rewards of the pairs that trained: median, middle half, and 5% to 95%.", keysOf(sides), (w) => boxes(w, labels, sides)));
  const length = over((it) => it.length);
  charts.push(chart("Length of responses", "Tokens of the responses that an iteration sampled: median, middle half, and 5% to 95%.", keysOf(length), (w) => boxes(w, labels, length)));
  const gain = over((it) => it.gain);
  if (measured((it) => it.gain)) charts.push(chart("What sampling again changed", "Best reward of a regenerated prompt, less its best reward before. Prompts are chosen because that was low, so a part of the gain is chance.", keysOf(gain), (w) => boxes(w, labels, gain)));
  const single = [
    ["KL to the start", "Nats per response, estimated on fresh responses to the same prompts.", (it) => it.kl, false],
    ["Cut at the limit", "Share of sampled responses that reached the longest length allowed.", (it) => it.truncated, true],
    ["Held-out reward", "Mean reward on validation prompts, of the policy after each iteration.", (it) => it.validation, false],
    ["Held-out outcome", "Mean of an outcome that nothing is trained on, over the same answers.", (it) => it.outcome, false],
  ];
  for (const [title, caption, pick, fromZero] of single) {
    const series = asLines(over(pick));
    if (measured(pick)) charts.push(chart(title, caption, keysOf(series), (w) => lines(w, labels, series, fromZero)));
  }
  const weight = over((it) => it.weight);
  if (measured((it) => it.weight)) charts.push(chart("Weights of pairs", "R of Eq. 6, sigma(beta_2 × reward gap): from 0.5 for equal rewards to 1.", keysOf(weight), (w) => boxes(w, labels, weight)));
  charts.push(...costs());
  place.append(
    head("iterations", "Every iteration"),
    el("p", {}, `Computed over all ${whole(DATA.total)} prompts. Rewards are those that the policy was tuned on: they are no measure of quality. What an iteration sampled is not comparable with the iteration before, as it asks other prompts; the newest responses of all prompts are.`),
    el("div", { class: "charts" }, ...charts), iterationTable());
}
function costs() {
  const rows = (parts, saved, show) => RUNS.flatMap((run, i) => run.iterations.map((it) => ({ label: `${LETTERS[i]}${TWO ? " " : ""}${it.t}`, parts: parts(it), saved: saved(it) || 0, show })));
  const times = rows((it) => PHASES.map(([stage, name, key]) => [name, it.seconds[stage] || 0, key]), (it) => it.saved?.seconds, duration);
  const used = PHASES.filter(([stage]) => RUNS.some((run) => run.iterations.some((it) => stage in it.seconds)));
  const tokens = rows((it) => [["sampled", it.tokens, "a"]], (it) => it.saved?.tokens, whole);
  const told = (row) => row.show(sum(row.parts.map((p) => p[1]))) + (row.saved ? ` (saved about ${row.show(row.saved)})` : "");
  const saved = ["saved by selection", "saved"];
  const note = "Dashed: what the kept prompts would have taken, too, at this iteration’s cost of a prompt.";
  return [
    chart("Time by phase", note, [...used.map(([, name, key]) => [name, key]), saved], (w) => bars(w, times, told), TWO),
    chart("Tokens sampled", note, [["sampled", "a"], saved], (w) => bars(w, tokens, told), TWO),
  ];
}
// Its standard error is known where `kl_prompts` is set.
function klTold(it) {
  return number(it.kl) + (known(it.kl_error) ? ` ± ${number(it.kl_error)}` : "");
}
function iterationTable() {
  const titles = ["iteration", "prompts", "regenerated", "tokens", "mean length", "cut", "reward, sampled", "reward, newest of all", "pairs", "of them kept", "left out", "chosen", "rejected", "mean weight", "loss", "KL", "held-out reward", "held-out outcome", "memory peak, GB"];
  const rows = RUNS.flatMap((run, i) => run.iterations.map((it) => [
    `${LETTERS[i]}${TWO ? " " : ""}${it.t}`, whole(it.prompts), whole(it.selected), whole(it.tokens), number(it.length?.mean), percent(it.truncated), number(it.fresh?.mean),
    number(it.latest?.mean), whole(it.pairs?.n), whole(it.pairs?.reused), whole(sum(Object.values(it.left_out))), number(it.chosen?.mean),
    number(it.rejected?.mean), number(it.weight?.mean), number(it.loss), klTold(it), number(it.validation), number(it.outcome), number(it.memory)]));
  const used = titles.map((_, column) => column < 5 || rows.some((row) => row[column] !== "–"));
  const kept = (row) => row.filter((_, column) => used[column]);
  return table(kept(titles), rows.map(kept));
}

// --- sections that a caller added ------------------------------------------------------------------------------------

function showSections() {
  DATA.sections.forEach((section, i) => {
    const id = `section-${i}`;
    const parts = { table: tableOf, curve: curveOf, answers: answersOf }[section.kind](section);
    $("sections").append(el("section", { id, "aria-labelledby": `${id}-title` }, head(id, section.title), section.note ? el("p", {}, section.note) : null, ...parts));
  });
}

function tableOf(section) {
  // A column of whole numbers holds counts; where one is not whole, all get the same decimals.
  const numeric = (v) => typeof v === "number";
  const shown = section.columns.map((_, column) => (section.rows.every((row) => !numeric(row[column]) || Number.isInteger(row[column])) ? whole : number));
  return [table(section.columns, section.rows.map((row) => row.map((v, column) => (numeric(v) ? (shown[column] ?? number)(v) : v))))];
}

function curveOf(section) {
  const keys = ["a", "b", "c", "d", "e"];
  const xs = [...new Set(section.series.flatMap((s) => s.points.map((p) => p.x)))].sort((a, b) => a - b);
  const series = section.series.map((s, i) => ({ name: s.name, key: keys[i % 5], points: s.points.map((p) => ({ ...p, at: xs.indexOf(p.x) })) }));
  return [el("div", { class: "charts" }, chart(section.y, `By ${section.x}.`, series.map((s) => [s.name, s.key]), (w) => lines(w, xs, series), true))];
}
function answersOf(section) {
  const place = el("div");
  return [place, pager(place, section.rows, (row) => el("article", { class: "card prompt" },
    row.category ? el("div", { class: "facts" }, el("span", { class: "chip" }, row.category)) : null,
    el("div", { class: "text asked", dir: "auto" }, row.prompt),
    el("div", { class: "sides" }, ...answerSides(section.names, row.answers))), 5)];
}
function answerSides(names, answers) {
  const marked = answers.length === 2 ? difference(answers[0].text, answers[1].text) : answers.map((a) => [document.createTextNode(a.text)]);
  return answers.map((answer, i) => el("div", { class: "side" },
    el("h4", {}, names[i] + (known(answer.reward) ? ` · ${number(answer.reward)}` : "")),
    el("div", { class: "text", dir: "auto" }, ...marked[i]),
    answer.checks.length ? el("ul", { class: "checks" }, ...answer.checks.map((c) => el("li", { class: c.met ? "up" : "down" }, `${c.met ? "✓" : "✗"} ${c.name}`))) : null));
}

// --- differences of two texts ----------------------------------------------------------------------------------------

// Two lists of nodes, with the words marked that the other text does not have at that place.
function difference(left, right) {
  const [a, b] = [left, right].map((text) => text.match(/\s+|[^\s]+/g) || []);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const [n, m] = [a.length - start - end, b.length - start - end];
  if (n * m > LARGEST_DIFFERENCE || left === right) return [[document.createTextNode(left)], [document.createTextNode(right)]];
  const common = new Uint16Array((n + 1) * (m + 1)); // longest common subsequence of the rests
  const at = (i, j) => common[i * (m + 1) + j];
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      common[i * (m + 1) + j] = a[start + i] === b[start + j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const same = [new Set(), new Set()];
  for (let i = 0, j = 0; i < n && j < m; ) {
    if (a[start + i] === b[start + j]) { same[0].add(start + i++); same[1].add(start + j++); }
    else if (at(i + 1, j) >= at(i, j + 1)) i++;
    else j++;
  }
  return [marked(a, same[0], start, a.length - end, "gone"), marked(b, same[1], start, b.length - end, "new")];
}
function marked(words, same, start, end, kind) {
  const nodes = [];
  let [run, differs] = ["", false];
  const close = () => { if (run) nodes.push(differs ? el("mark", { class: kind }, run) : document.createTextNode(run)); run = ""; };
  words.forEach((word, i) => {
    const now = i >= start && i < end && !same.has(i);
    if (now !== differs) { close(); differs = now; }
    run += word;
  });
  close();
  return nodes;
}

// --- prompts ---------------------------------------------------------------------------------------------------------

const of = (prompt, i = 0) => prompt.runs[i];
const best = (responses) => responses.reduce((top, r) => (!top || r[2] > top[2] ? r : top), null);
const sampledIn = (run, t) => run.responses.filter((r) => r[0] === t);
const latestBest = (run) => (run ? best(sampledIn(run, run.newest)) : null);
const latestReward = (prompt, i = 0) => latestBest(of(prompt, i))?.[2] ?? null;
const lastLabel = (i) => RUNS[i].labels[RUNS[i].labels.length - 1];
const age = (prompt) => Math.min(...prompt.runs.map((run, i) => (run ? lastLabel(i) - run.newest : Infinity)));
const change = (prompt) => (TWO ? (known(latestReward(prompt, 0)) && known(latestReward(prompt, 1)) ? latestReward(prompt, 1) - latestReward(prompt, 0) : null) : of(prompt).gain);
const ORDERS = {
  random: ["at random", null],
  gain: [TWO ? "B above A the most" : "biggest gains", (p) => -change(p)],
  loss: [TWO ? "A above B the most" : "biggest losses", change],
  low: ["lowest reward now", (p) => latestReward(p, known(of(p)) ? 0 : 1)],
  high: ["highest reward now", (p) => -latestReward(p, known(of(p)) ? 0 : 1)],
  old: ["kept the longest", (p) => -age(p)],
};

function showPrompts() {
  const place = $("prompts");
  const categories = [...new Set(DATA.prompts.map((p) => p.category))].filter(Boolean).sort();
  const ages = [...new Set(DATA.prompts.map(age))].filter((a) => a > 0 && a < Infinity).sort((a, b) => a - b);
  const option = (value, text) => el("option", { value }, text);
  const field = (name, control, grow = "") => el("label", { class: grow }, name, control);
  const order = el("select", { id: "order" }, ...Object.entries(ORDERS).map(([key, [name]]) => option(key, name)));
  const category = el("select", { id: "category" }, option("", "all"), ...categories.map((c) => option(c, c)));
  const kept = el("select", { id: "age" }, option("0", "any time"), ...ages.map((a) => option(a, `at least ${a} iteration${a > 1 ? "s" : ""} ago`)));
  const [low, high] = ["lowest", "highest"].map((id) => el("input", { id, type: "number", step: "any" }));
  const text = el("input", { id: "search", type: "search", placeholder: "in prompts and responses" });
  const count = el("p", { id: "count", role: "status" });
  const list = el("div", { id: "list" });
  let shown = [];
  const pages = pager(list, shown, promptCard, PER_PAGE);
  const filter = () => {
    const [key, words] = [ORDERS[order.value][1], text.value.trim().toLowerCase()];
    shown = DATA.prompts.filter((p) => (key || !p.extra) && (!category.value || p.category === category.value)
      && (kept.value === "0" || age(p) >= +kept.value)
      && inside(p, low.value, high.value) && (!words || hasText(p, words)));
    if (key) shown = shown.filter((p) => known(change(p)) || !["gain", "loss"].includes(order.value)).map((p) => [key(p), p]).sort((a, b) => a[0] - b[0]).map(([, p]) => p);
    if (order.value === "gain") shown = shown.filter((p) => change(p) > 0);
    if (order.value === "loss") shown = shown.filter((p) => change(p) < 0);
    count.textContent = `${whole(shown.length)} of the ${whole(DATA.prompts.length)} prompts on this page.`;
    pages.update(shown);
  };
  for (const control of [order, category, kept]) control.addEventListener("change", filter);
  let waiting = 0;
  for (const control of [low, high, text]) control.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 200); });
  place.append(
    head("prompts", "Prompts"), el("p", {}, sampleSentence()),
    el("div", { class: "controls" }, field("order", order), field("text", text, "grow"), ...(categories.length ? [field("category", category)] : []), field("reward now from", low), field("to", high), ...(ages.length ? [field("last sampled", kept)] : [])),
    count, list, pages);
  filter();
}
function sampleSentence() {
  const everything = DATA.drawn === DATA.total;
  const drawn = everything
    ? `All ${whole(DATA.total)} prompts are here, in an order drawn at random.`
    : `${whole(DATA.drawn)} of ${whole(DATA.total)} prompts are here: a random draw, the same for every run, as large as the page may be. The ${DATA.extremes} biggest gains and losses of all prompts are here as well.`;
  const gain = TWO ? "A gain is B’s best newest reward less A’s." : "A gain is a prompt’s best newest reward less its best first one; a part of the biggest is chance.";
  return `${drawn} ${gain}`;
}
const inside = (p, low, high) => p.runs.some((run) => {
  const reward = latestBest(run)?.[2];
  return (low === "" && high === "") || (known(reward) && (low === "" || reward >= +low) && (high === "" || reward <= +high));
});
const hasText = (p, words) => p.text.toLowerCase().includes(words) || p.id.toLowerCase().includes(words) || p.runs.some((run) => run && run.responses.some((r) => r[5].toLowerCase().includes(words)));

function pager(place, rows, card, size) {
  const [before, after] = ["Previous", "Next"].map((name) => el("button", { type: "button" }, name));
  const where = el("span", { role: "status" });
  let page = 0;
  const show = (scroll) => {
    const last = Math.max(0, Math.ceil(rows.length / size) - 1);
    page = Math.max(0, Math.min(page, last));
    place.replaceChildren(...rows.slice(page * size, (page + 1) * size).map(card));
    where.textContent = rows.length ? `${whole(page * size + 1)} to ${whole(Math.min(rows.length, (page + 1) * size))} of ${whole(rows.length)}` : "nothing to show";
    [before.disabled, after.disabled] = [page === 0, page === last];
    if (scroll) place.scrollIntoView({ block: "start" });
  };
  before.addEventListener("click", () => { page--; show(true); });
  after.addEventListener("click", () => { page++; show(true); });
  const bar = el("div", { class: "pager" }, before, where, after);
  bar.update = (now) => { rows = now; page = 0; show(false); };
  show(false);
  return bar;
}

function promptCard(prompt) {
  const moved = change(prompt);
  const facts = el("div", { class: "facts" },
    prompt.category ? el("span", { class: "chip" }, prompt.category) : null,
    prompt.extra ? el("span", { class: "chip odd" }, "an extreme of all prompts, not drawn") : null,
    ...prompt.runs.flatMap((run, i) => (run ? [spark(run, i), el("span", {}, `${TWO ? `${LETTERS[i]}: ` : ""}best reward now ${number(latestReward(prompt, i))}, sampled in iteration ${[...new Set(run.responses.map((r) => r[0]))].join(", ")}`)] : [el("span", {}, `not in ${LETTERS[i]}`)])),
    known(moved) ? el("span", { class: moved > 0 ? "up" : moved < 0 ? "down" : "" }, `${TWO ? "B less A" : "gain"} ${signed(moved)}`) : null,
    el("span", { class: "id" }, prompt.id));
  const earlier = (prompt.turns || []).slice(0, -1).map(([role, text]) => el("div", { class: "text turn", dir: "auto" }, `${role}: ${text}`));
  const history = el("details", {}, el("summary", {}, "What happened to it in every iteration"));
  history.addEventListener("toggle", () => { if (history.open && history.children.length === 1) history.append(...prompt.runs.map((run, i) => (run ? historyTable(run, i) : null)).filter(Boolean)); });
  return el("article", { class: "card prompt" }, facts, ...earlier, el("div", { class: "text asked", dir: "auto" }, prompt.text), sides(prompt), history);
}
// The best reward of each iteration that sampled the prompt, as a small line.
function spark(run, i) {
  const labels = RUNS[i].labels;
  const points = labels.map((t, at) => [at, best(sampledIn(run, t))?.[2]]).filter((p) => known(p[1]));
  const [width, height] = [16 + 16 * Math.max(1, labels.length - 1), 22];
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  drawing.style.width = `${width}px`;
  const [low, high] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1]))];
  const place = ([at, y]) => [8 + at * 16, high > low ? 18 - ((y - low) / (high - low)) * 14 : 11];
  drawing.append(svg("polyline", { points: points.map((p) => place(p).join(",")).join(" "), class: `line-${HUES[i]}` }));
  for (const p of points) drawing.append(svg("circle", { cx: place(p)[0], cy: place(p)[1], r: 3, class: `fill-${HUES[i]}` }));
  return drawing;
}
// Two responses beside each other, of those that were ever sampled for the prompt; what differs is marked.
function sides(prompt) {
  const all = prompt.runs.flatMap((run, i) => (run ? run.responses.map((r) => ({ r, i, run })) : []));
  const name = ({ r, i, run }) => `${TWO ? `${LETTERS[i]}, ` : ""}iteration ${r[0]}, response ${r[1] + 1}, reward ${number(r[2])}, ${r[3]} tokens${r[4] ? ", cut" : ""}${sideOf(run, r)}`;
  const first = all.findIndex((o) => o.r === firstShown(prompt));
  const second = all.findIndex((o) => o.r === secondShown(prompt));
  const panes = [first, second].map((at, side) => {
    const choice = el("select", { "aria-label": side ? "right response" : "left response" }, ...all.map((o, k) => el("option", { value: k }, name(o))));
    choice.value = String(Math.max(0, at));
    const text = el("div", { class: "text", dir: "auto" });
    return { choice, text, box: el("div", { class: "side" }, choice, text) };
  });
  const show = () => {
    const nodes = difference(...panes.map((pane) => all[+pane.choice.value].r[5]));
    panes.forEach((pane, side) => pane.text.replaceChildren(...nodes[side]));
  };
  for (const pane of panes) pane.choice.addEventListener("change", show);
  if (!all.length) return el("p", { class: "note" }, "No response was sampled for it.");
  show();
  return el("div", { class: "sides" }, ...panes.map((pane) => pane.box));
}
function sideOf(run, r) {
  const pair = run.pairs.filter((p) => (p[1] === r[0] && p[2] === r[1]) || (p[3] === r[0] && p[4] === r[1])).pop();
  return pair ? (pair[1] === r[0] && pair[2] === r[1] ? ", chosen" : ", rejected") : "";
}
function firstShown(prompt) {
  if (TWO && of(prompt, 0)) return latestBest(of(prompt, 0));
  const run = of(prompt, 0) || of(prompt, 1);
  return best(sampledIn(run, run.responses[0]?.[0]));
}
// The best of the newest; of a prompt sampled once the worst, so that two different ones are seen.
function secondShown(prompt) {
  if (TWO && of(prompt, 0) && of(prompt, 1)) return latestBest(of(prompt, 1));
  const run = of(prompt, 0) || of(prompt, 1);
  const newest = latestBest(run);
  return newest === firstShown(prompt) ? sampledIn(run, run.newest).reduce((low, r) => (!low || r[2] < low[2] ? r : low), null) : newest;
}
function historyTable(run, i) {
  const rows = RUNS[i].iterations.map((it, k) => {
    const rewards = sampledIn(run, it.t).map((r) => number(r[2])).join(" and ");
    const trained = run.pairs.filter((p) => p[0] === it.t);
    return [String(it.t), el("td", { class: "why" }, why(run, i, it, k)), rewards || "–", trained.map(pairText).join("; ") || "none", trained.map((p) => number(p[5])).join("; ") || "–", trained.map((p) => (known(p[6]) ? p[6].toFixed(3) : "1")).join("; ") || "–"];
  });
  const weighted = RUNS[i].iterations.some((it) => it.weight);
  const titles = ["iteration", "sampled or kept, and why", "rewards sampled", "pair that trained", "reward gap", "weight"];
  const cut = (row) => (weighted ? row : row.slice(0, -1));
  return el("div", {}, TWO ? el("h4", {}, runName(i)) : null, table(cut(titles), rows.map(cut), "words"));
}
function why(run, i, it, k) {
  const rank = run.rank[k];
  const sampled = sampledIn(run, it.t).length > 0;
  if (rank === -1) return "not among this iteration’s prompts";
  if (it.t === 0) return "sampled: iteration 0 samples every prompt";
  if (rank === 0) return sampled ? "sampled for the first time" : "not sampled";
  const before = RUNS[i].labels.slice(0, k).reverse().map((t) => best(sampledIn(run, t))).find(known);
  const place = `its best reward before, ${number(before?.[2])}, was the ${ordinal(rank)} lowest of ${whole(it.prompts)}`;
  const rule = RUNS[i].strategy === "lowest_reward" ? `the ${whole(it.selected)} lowest were regenerated` : `“${RUNS[i].strategy}” chose ${whole(it.selected)}`;
  return `${sampled ? "regenerated" : "kept"}: ${place}; ${rule}`;
}
function pairText(p) {
  const side = (t, index) => (t < 0 ? "one of the offline data" : `iteration ${t}, response ${index + 1}`);
  return `${side(p[1], p[2])} over ${p[1] === p[3] && p[3] >= 0 ? `response ${p[4] + 1}` : side(p[3], p[4])}`;
}

// --- all of it -------------------------------------------------------------------------------------------------------

showTop();
showSections();
showIterations();
showPrompts();
for (const title of document.querySelectorAll("h2")) $("contents").append(el("a", { href: `#${title.id}` }, title.textContent));
$("footer").append("Made by `python -m optune view`. This page loads nothing and sends nothing. Texts of prompts and responses are shown as they are.");
document.documentElement.dataset.ready = "yes";
