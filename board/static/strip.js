// The path strip: a row a path, a box a stage; what a box holds opens below its row.
import { badge, brief, clock, count, draw, duration, eta, h, left, parkedIn, rate, say, span, table, tone, waiting, word } from "/static/dom.js";
import { ageChart } from "/static/charts.js";

const WHAT = { store: "event store", relay: "relay", topic: "topic", consumer: "consumer", "read model": "read model" };

/** What a box is called. The last one of a reaction is no read model: it is what the service did. */
function what(path, stage) {
  return stage.kind === "read model" && path.kind === "reaction" ? "reaction" : WHAT[stage.kind] ?? stage.kind;
}

class Box {
  constructor(open) {
    this.what = h("span", { class: "what" });
    this.age = h("span", { class: "age" });
    this.count = h("span", { class: "count" });
    this.state = h("span");
    this.left = h("span", { class: "left" });
    this.element = h("button", { type: "button", class: "box", "aria-expanded": "false", onclick: open },
      this.what, this.age, this.count, h("span", { class: "how" }, this.state, this.left));
  }

  show(path, stage) {
    const quiet = stage.kind === "store" && !stage.pending; // says how far the store is, rather than that nothing waits
    say(this.what, what(path, stage));
    this.what.title = stage.name;
    say(this.age, quiet && stage.head !== null ? `#${brief(stage.head)}` : duration(stage.age));
    say(this.count, stage.state === "CANT_SEE" ? `seen at ${clock(stage.as_of)}` : quiet ? `${rate(stage.rate_in)} in` : `${waiting(stage, brief)} waiting · ${rate(stage.rate_out)}`);
    if (this.shown !== stage.state) { this.state.replaceChildren(badge(stage.state)); this.shown = stage.state; }
    say(this.left, stage.state === "CATCHING_UP" ? left(stage.eta) : "");
    const slowest = stage.slowest && (stage.age > 0 || tone(stage.state) !== "calm");
    this.element.className = `box ${stage.kind} ${tone(stage.state)}${slowest ? " slowest" : ""}${quiet || stage.age === 0 ? " zero" : ""}${stage.state === "CANT_SEE" ? " unseen" : stage.state === "SUSPENDED" ? " suspended" : ""}`;
    this.element.setAttribute("aria-label", [
      `${path.projection}, ${what(path, stage)} ${stage.name}: ${word(stage.state)}`,
      quiet ? "" : `oldest event waits for ${duration(stage.age)}, ${waiting(stage)} waiting`,
      eta(stage.eta),
      slowest ? "the slowest stage of this path" : "",
    ].filter(Boolean).join("; "));
  }
}

class Row {
  constructor(strip, path) {
    this.id = path.id;
    this.name = h("strong");
    this.about = h("span", { class: "hush" });
    this.behind = h("span", { class: "behind" });
    this.canary = h("span", { class: "canary" });
    this.boxes = path.stages.map((stage) => new Box(() => strip.toggle(path.id, stage.kind)));
    this.element = h("div", { class: "path", role: "group" },
      h("div", { class: "name" }, this.name, this.about, this.behind, this.canary),
      h("div", { class: path.stages.length < 3 ? "stages short" : "stages" }, this.boxes.map((box) => box.element)));
    this.detail = null;
  }

  show(path, canary) {
    say(this.name, path.projection);
    say(this.canary, canary ? canaryIn(canary) : "");
    this.canary.title = canary ? `Canary: ${canary.text}` : "";
    this.canary.classList.toggle("waits", Boolean(canary) && canary.round_trip === null && canary.waiting !== null);
    const version = path.version === null ? "" : ` v${path.version}`;
    const from = path.topic ? ` ${path.kind === "reaction" ? "to" : "of"} ${path.topic}` : "";
    const parked = parkedIn(path.parked_streams, path.conflicting_streams, path.foreign_records);
    const begun = path.beginning ? ` · ${path.beginning.text}` : "";
    const stray = path.declared === false ? " · of no service" : "";
    say(this.about, `${path.service} · ${path.kind}${version}${from}${begun}${parked && ` · ${parked}`}${stray}`);
    say(this.behind, behind(path));
    this.element.setAttribute("aria-label", `${path.projection} of the ${path.service} service: ${path.text}`);
    path.stages.forEach((stage, index) => this.boxes[index].show(path, stage));
    this.detail?.show(path);
  }

  open(detail, kind, path) {
    this.detail?.element.remove();
    this.detail?.stop();
    this.detail = detail;
    path.stages.forEach((stage, index) => this.boxes[index].element.setAttribute("aria-expanded", String(stage.kind === kind)));
    if (detail) { this.element.append(detail.element); detail.show(path); detail.start(); }
  }
}

/** How a path that is not up to date fares as a whole: "3 min 50 s behind, growing by 38/s". */
function behind(path) {
  if (path.state === "UP_TO_DATE" || path.state === "CANT_SEE" || !(path.age >= 0.05)) return "";
  const growing = path.net_rate > 0 && path.state !== "CATCHING_UP" ? `, growing by ${rate(path.net_rate)}` : "";
  return `${duration(path.age)} behind${growing}`;
}

/** How long an event of no domain took through the whole path, a few seconds ago: "canary 84 ms". */
function canaryIn(canary) {
  if (canary.round_trip !== null) return `canary ${span(canary.round_trip)}`;
  return canary.waiting === null ? "" : `canary waits for ${duration(canary.waiting)}`;
}

class Detail {
  constructor(path, kind, close) {
    this.kind = kind;
    this.title = h("h3");
    this.state = h("span");
    this.why = h("p", { class: "why" });
    this.held = h("p", { class: "why small" });
    this.partitions = h("div", { class: "scroll" });
    this.marks = h("div", { class: "scroll" });
    this.plot = h("div", { class: "chart" });
    this.element = h("div", { class: "more" },
      h("div", { class: "head" }, this.title, this.state, h("button", { type: "button", class: "plain", onclick: close }, "Close")),
      this.why, this.held, this.plot, this.partitions, this.marks);
    this.chart = ageChart(this.plot, { path: path.id, stage: kind, span: 900 });
  }

  start() { this.chart.start(); }
  stop() { this.chart.stop(); }

  show(path) {
    const stage = path.stages.find((each) => each.kind === this.kind);
    if (!stage) return;
    say(this.title, `${what(path, stage)} ${stage.name}`);
    if (this.shown !== stage.state) { this.state.replaceChildren(badge(stage.state)); this.shown = stage.state; }
    say(this.why, [sentence(stage.text), stage.since === null ? "" : `In this state for ${duration(stage.since)}.`].filter(Boolean).join(" "));
    draw(this.held, held(stage.event));
    this.held.hidden = !stage.event;
    draw(this.partitions, stage.partitions.length ? partitions(stage) : []);
  }

  showMarks(marks) {
    draw(this.marks, marks.length
      ? table([["When"], ["What"], ["Of"], ["How", "wide"]], marks.map((mark) => [clock(mark.at), mark.kind, mark.subject, mark.text]), "What happened")
      : []);
  }
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".") : "");

/** The event that waits: never its data. */
function held(event) {
  if (!event) return [];
  const transaction = event.transaction_at === null ? null : `An open transaction of another producer (at offset ${event.transaction_at})`;
  const parts = [h("strong", {}, transaction ?? event.type ?? "An event that can’t be read")];
  if (event.stream_id) {
    parts.push(" of ", h("a", { class: "mono", href: `#find=${encodeURIComponent(event.event_id ?? event.stream_id)}` }, event.stream_id));
    if (event.version !== null) parts.push(`, version ${event.version}`);
  }
  if (event.waiting !== null) parts.push(`, waiting for ${duration(event.waiting)}`);
  if (event.attempts !== null) parts.push(`, attempt ${event.attempts}`);
  if (event.error) parts.push(": ", h("span", { class: "mono" }, event.error));
  return parts;
}

const LISTED = 60; // partitions; of more, those that are in trouble come first, and what is well is left out

function partitions(stage) {
  const own = stage.kind === "read model";
  const passed = own ? "Next" : "Committed";
  const all = Math.max(stage.partition_count ?? 0, stage.partitions.length); // the board may leave out what is well
  const many = all > LISTED;
  const listed = many ? [...stage.partitions].sort(byTrouble).slice(0, LISTED) : stage.partitions;
  const rows = listed.map((each) => [
    String(each.partition), badge(each.state), duration(each.age), count(each.pending), rate(each.rate_in), rate(each.rate_out),
    count(each.passed), count(each.log_end), each.member ?? "", eta(each.eta) || last(each)]);
  const shown = table(
    [["Partition", "n"], ["State"], ["Age", "n"], ["Waiting", "n"], ["In", "n"], ["Out", "n"], [passed, "n"], ["Log end", "n"], ["Member", "line"], ["Why, or when it is done", "wide"]],
    rows, `Partitions of ${stage.name}`);
  return many ? [shown, h("p", { class: "none" }, `${count(listed.length)} of ${count(all)} partitions: the oldest ones`)] : shown;
}

const byTrouble = (one, other) => Number(one.state === "UP_TO_DATE") - Number(other.state === "UP_TO_DATE") || (other.age ?? Infinity) - (one.age ?? Infinity) || one.partition - other.partition;

function last(partition) {
  return partition.event ? h("span", {}, held(partition.event)) : partition.state === "UP_TO_DATE" ? "" : partition.text;
}

export class Strip {
  constructor(element) {
    this.element = element;
    this.rows = [];
    this.shape = "";
    this.opened = null;
    this.board = null;
  }

  show(board) {
    this.board = board;
    const shape = JSON.stringify(board.paths.map((path) => [path.id, path.stages.map((stage) => stage.kind)]));
    if (shape !== this.shape) this.build(board, shape);
    const canaries = new Map((board.canaries ?? []).map((each) => [each.path, each]));
    board.paths.forEach((path, index) => this.rows[index].show(path, canaries.get(path.id)));
    this.showMarks();
  }

  build(board, shape) {
    this.rows.forEach((row) => row.detail?.stop());
    this.shape = shape;
    this.rows = board.paths.map((path) => new Row(this, path));
    this.element.replaceChildren(...this.rows.map((row) => row.element));
    const opened = this.opened;
    this.opened = null;
    if (opened && board.paths.some((path) => path.id === opened.id)) this.toggle(opened.id, opened.kind);
  }

  toggle(id, kind) {
    const same = this.opened?.id === id && this.opened?.kind === kind;
    this.opened = same ? null : { id, kind };
    this.board.paths.forEach((path, index) => {
      const row = this.rows[index];
      const opens = !same && path.id === id;
      if (!opens && !row.detail) return;
      row.open(opens ? new Detail(path, kind, () => this.toggle(id, kind)) : null, kind, path);
      if (!opens) row.boxes.forEach((box) => box.element.setAttribute("aria-expanded", "false"));
    });
    this.showMarks();
  }

  showMarks() {
    if (!this.opened) return;
    const index = this.board.paths.findIndex((path) => path.id === this.opened.id);
    const path = this.board.paths[index];
    if (!path) return;
    const subjects = new Set([path.id, path.group, path.topic, path.service, path.source, path.projection]);
    this.rows[index].detail?.showMarks(this.board.marks.filter((mark) => subjects.has(mark.subject)).slice(-8).reverse());
  }

  recolour() {
    this.rows.forEach((row) => row.detail?.chart.recolour());
  }
}
