// Partitions over time as a heat map, and the throughput of the same path.
import { byId, clock, draw, duration, h, round, say } from "/static/dom.js";
import { colour, history, rateChart } from "/static/charts.js";

// Seconds behind, evenly spaced on a logarithmic scale, and what they look like. One hue from quiet to loud in
// lightness as well, so that it reads without colour vision.
const SCALE = [0.5, 2, 10, 60, 600, 3600];
const RAMPS = {
  light: ["#e8ecef", "#fbe7bd", "#f7bf6b", "#e77f3c", "#bd3c28", "#6b1220"],
  dark: ["#20272d", "#4a3c22", "#84591f", "#c6702a", "#f2894f", "#ffd9b8"],
};

const parse = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The colour of an age: interpolated between the steps of the scale by its logarithm. */
export function heat(seconds, ramp) {
  if (!(seconds > SCALE[0])) return ramp[0];
  const above = SCALE.findIndex((step) => step >= seconds);
  if (above < 0) return ramp.at(-1);
  const [low, high] = [Math.log(SCALE[above - 1]), Math.log(SCALE[above])];
  const share = (Math.log(seconds) - low) / (high - low);
  const [from, to] = [parse(ramp[above - 1]), parse(ramp[above])];
  return `rgb(${from.map((part, index) => Math.round(part + (to[index] - part) * share)).join(" ")})`;
}

const PAD = { left: 34, right: 2, bottom: 20 };

class HeatMap {
  constructor(canvas, said) {
    this.canvas = canvas;
    this.said = said;
    this.answer = null;
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.summary());
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  show(answer) { this.answer = answer; this.draw(); if (!this.canvas.matches(":hover")) this.summary(); }

  layout() {
    const width = this.canvas.parentElement.clientWidth - parseFloat(getComputedStyle(this.canvas.parentElement).paddingLeft) * 2;
    const rows = Math.max(1, ...(this.answer?.seconds ?? []).map((ages) => ages.length));
    const height = Math.max(4, Math.min(rows === 1 ? 36 : 17, Math.floor(420 / rows)));
    const plot = width - PAD.left - PAD.right;
    const { since, until } = this.answer ?? { since: 0, until: 1 };
    return { width, rows, height, x: (at) => PAD.left + ((at - since) / (until - since)) * plot, at: (x) => since + ((x - PAD.left) / plot) * (until - since) };
  }

  draw() {
    if (!this.answer) return;
    const { width, rows, height, x } = this.layout();
    const total = rows * height + PAD.bottom;
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(total * scale);
    this.canvas.style.height = `${total}px`;
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const ramp = currentRamp();
    const gap = height > 7 ? 1 : 0;
    const { at, seconds, step } = this.answer;
    at.forEach((time, index) => {
      const left = Math.floor(x(time) * scale) / scale;
      // Passes are a little more than a step apart: now and then a bucket stays empty though nothing was missed.
      const end = at[index + 1] - time < 2.5 * step ? at[index + 1] : time + step;
      const right = Math.ceil(x(end) * scale) / scale;
      seconds[index].forEach((age, partition) => {
        if (age === null || right < PAD.left) return;
        context.fillStyle = heat(age, ramp);
        const from = Math.max(left, PAD.left);
        context.fillRect(from, partition * height, Math.min(right, width - PAD.right) - from, height - gap);
      });
    });
    this.labels(context, rows, height, total, x);
  }

  labels(context, rows, height, total, x) {
    context.fillStyle = colour("soft");
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "right";
    const every = Math.ceil(12 / height);
    if (rows > 1) for (let row = 0; row < rows; row += every) context.fillText(String(row), PAD.left - 8, row * height + height / 2);
    const { since, until } = this.answer;
    const span = until - since;
    const tick = span > 40000 ? 14400 : span > 2000 ? 600 : 180;
    const narrow = this.canvas.clientWidth < 500 ? 2 : 1;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    const zone = new Date().getTimezoneOffset() * 60;
    for (let at = Math.ceil((since - zone) / (tick * narrow)) * tick * narrow + zone; at < until; at += tick * narrow) {
      const text = new Date(at * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
      if (x(at) > PAD.left + 14 && x(at) < this.layout().width - 16) context.fillText(text, x(at), total - 5);
    }
  }

  point(event) {
    if (!this.answer) return;
    const box = this.canvas.getBoundingClientRect();
    const { height, rows, at } = this.layout();
    const partition = Math.floor((event.clientY - box.top) / height);
    const time = at(event.clientX - box.left);
    const index = this.answer.at.findIndex((start) => time >= start && time < start + this.answer.step);
    if (partition < 0 || partition >= rows) return this.summary();
    const when = new Date(time * 1000).toLocaleTimeString("en-GB");
    const age = index < 0 ? null : this.answer.seconds[index][partition] ?? null;
    say(this.said, `${rows > 1 ? `partition ${partition}, ` : ""}${when}: ${age === null ? "not seen" : `${duration(age)} behind`}`);
  }

  summary() {
    if (!this.answer) return;
    let worst = { age: -1 };
    this.answer.at.forEach((time, index) => this.answer.seconds[index].forEach((age, partition) => {
      if (age !== null && age > worst.age) worst = { age, partition, time };
    }));
    const where = this.layout().rows > 1 ? `partition ${worst.partition}, ` : "";
    const text = worst.age < 0 ? "Nothing was seen in this time"
      : `Worst: ${where}${duration(worst.age)} behind at ${new Date(worst.time * 1000).toLocaleTimeString("en-GB")}`;
    say(this.said, text);
    this.canvas.setAttribute("aria-label", `Seconds behind by partition and time. ${text}`);
  }
}

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const currentRamp = () => RAMPS[dark() ? "dark" : "light"];

export class Trends {
  constructor() {
    this.board = null;
    this.chosen = null; // by the reader; else the path that is worst
    this.span = 900;
    this.shown = "";
    this.map = new HeatMap(byId("heat"), byId("heat-said"));
    this.rate = null;
    this.selected = "";
    this.timer = null;
    this.select = byId("heat-path");
    this.select.addEventListener("change", () => { this.chosen = this.selected = this.select.value; this.load(); });
    for (const button of byId("span").children) button.addEventListener("click", () => this.choose(button));
    this.recolour();
  }

  choose(button) {
    this.span = Number(button.dataset.span);
    for (const each of byId("span").children) each.setAttribute("aria-pressed", String(each === button));
    this.load();
  }

  show(board) {
    this.board = board;
    const options = board.paths.flatMap((path) => mappable(path).map((stage) => ({ path, stage })));
    const shape = JSON.stringify(options.map(({ path, stage }) => [path.id, stage.kind]));
    if (shape !== this.shown) {
      this.shown = shape;
      this.select.replaceChildren(...options.map(({ path, stage }) => h("option", { value: key(path, stage) }, label(path, stage))));
    }
    const here = options.some(({ path, stage }) => key(path, stage) === this.chosen);
    const wanted = here ? this.chosen : this.worst(options);
    if (wanted !== this.selected) { this.select.value = this.selected = wanted; this.load(); }
    this.listMarks();
  }

  /** What the marks in the chart are, latest first. */
  listMarks() {
    const rows = this.marks().slice(-4).reverse().map((mark) => `${clock(mark.at)}  ${mark.kind}: ${mark.subject}, ${mark.text}`);
    draw(byId("rate-marks"), rows.length ? h("ul", { class: "marks" }, rows.map((text) => h("li", {}, text))) : []);
  }

  /** Where the reader hasn't chosen: what is in trouble; what was in trouble, when all is well again. */
  worst(options) {
    const troubled = options
      .filter(({ path, stage }) => stage.state !== "UP_TO_DATE" && path.state !== "UP_TO_DATE" && stage.age !== null)
      .sort((one, other) => other.stage.age - one.stage.age || Number(other.stage.slowest) - Number(one.stage.slowest))[0];
    const stays = options.find(({ path, stage }) => key(path, stage) === this.selected);
    const most = [...options].sort((one, other) => other.stage.partitions.length - one.stage.partitions.length)[0];
    const found = troubled ?? stays ?? most;
    return found ? key(found.path, found.stage) : "";
  }

  path() { return this.board?.paths.find((path) => mappable(path).some((stage) => key(path, stage) === this.selected)) ?? null; }

  stage() { return this.selected.split("\n")[1] ?? null; }

  async load() {
    clearTimeout(this.timer);
    const path = this.path();
    if (!path) return;
    const asked = `${this.selected} ${this.span}`;
    this.asked = asked;
    this.rates(path, asked);
    try {
      const answer = await history(path.id, this.stage(), this.span);
      if (asked !== this.asked) return;
      this.map.show(answer);
    } catch (error) {
      say(byId("heat-said"), "No history can be read now");
    }
    this.timer = setTimeout(() => this.load(), this.span === 900 ? 3000 : 15000);
  }

  rates(path, asked) {
    say(byId("rate-of"), label(path, null));
    const request = { path: path.id, stage: null, span: this.span };
    if (!this.rate) {
      this.rate = rateChart(byId("rate"), request, () => this.marks());
      this.rate.start();
    } else if (this.ratesOf !== asked) this.rate.ask(request);
    this.ratesOf = asked;
  }

  marks() {
    const path = this.path();
    const subjects = new Set([path?.id, path?.group, path?.topic, path?.service, path?.projection]);
    return (this.board?.marks ?? []).filter((mark) => subjects.has(mark.subject));
  }

  recolour() {
    const ramp = currentRamp();
    byId("ramp").replaceChildren(...SCALE.flatMap((seconds, index) => {
      const swatch = h("span", { class: "swatch" });
      swatch.style.background = ramp[index];
      return [swatch, h("span", { class: "tick" }, `${index === 0 ? "≤ " : index === SCALE.length - 1 ? "≥ " : ""}${round(seconds)}`)];
    }));
    this.map.draw();
    this.rate?.recolour();
  }
}

/** The stages of a path that the map can show: those with partitions behind the topic, else the last one. */
function mappable(path) {
  const found = path.stages.filter((stage) => stage.partitions.length && stage.kind !== "topic");
  return found.length ? found : path.stages.slice(-1);
}

const key = (path, stage) => `${path.id}\n${stage.kind}`;

function label(path, stage) {
  return `${path.service} · ${path.projection}${path.topic && path.id.split("/").length > 2 ? ` · ${path.topic}` : ""}${stage ? ` · ${stage.kind}` : ""}`;
}
