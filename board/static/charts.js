// Charts of the past, from /history, drawn by uPlot.
import { duration, h, rate } from "/static/dom.js";

/** One stage of a path (no stage: the path as a whole) over the last `span` seconds. */
export async function history(path, stage, span) {
  const query = new URLSearchParams({ path, span: String(span) });
  if (stage) query.set("stage", stage);
  const response = await fetch(`/history?${query}`);
  if (!response.ok) throw new Error(`/history answers ${response.status}`);
  return response.json();
}

/** A colour of the style sheet as the canvas needs it. */
export function colour(name) {
  const probe = h("span", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** [times, ...values] with a null after each gap, so that no line is drawn where nothing was seen. */
export function withGaps(at, columns, step) {
  const times = [];
  const values = columns.map(() => []);
  at.forEach((time, index) => {
    if (index && time - at[index - 1] > Math.max(2.5 * step, step + 3)) {
      times.push(at[index - 1] + step);
      values.forEach((column) => column.push(null));
    }
    times.push(time);
    columns.forEach((column, which) => values[which].push(column[index]));
  });
  return [times, ...values];
}

const SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];

function axis(values, size, steps = {}) {
  return { ...steps, stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", values, size };
}

function time(self, splits, _axis, _space, step) {
  const form = step >= 60 ? { hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return splits.map((each) => new Date(each * 1000).toLocaleTimeString("en-GB", form));
}

/** A chart that loads itself again while it is shown. `draw(answer)`: what uPlot needs of the answer of /history. */
class Live {
  constructor(element, request, draw) {
    this.element = element;
    this.request = request;
    this.draw = draw;
    this.plot = null;
    this.answer = null;
    this.timer = null;
    this.wait = h("p", { class: "empty" }, "Loading");
    element.replaceChildren(this.wait);
    this.observer = new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: 180 }));
  }

  width() { return Math.max(200, this.element.clientWidth); }

  start() { this.observer.observe(this.element); this.load(); }

  stop() { clearTimeout(this.timer); this.timer = "stopped"; this.observer.disconnect(); this.plot?.destroy(); this.plot = null; }

  ask(request) { this.request = request; clearTimeout(this.timer); this.plot?.destroy(); this.plot = null; this.load(); }

  async load() {
    const asked = this.request;
    try {
      const answer = await history(asked.path, asked.stage, asked.span);
      if (asked !== this.request || this.timer === "stopped") return;
      this.answer = answer;
      this.render();
    } catch (error) {
      if (!this.plot) this.wait.textContent = "No history can be read now";
    }
    if (this.timer !== "stopped") this.timer = setTimeout(() => this.load(), Math.max(2, Math.min(30, (this.answer?.step ?? 1) * 3)) * 1000);
  }

  render() {
    if (!this.answer) return;
    if (this.answer.at.length < 2) { this.wait.textContent = "Too early: nothing to draw yet"; return; }
    const { data, options } = this.draw(this.answer);
    if (this.plot && this.plot.series.length === data.length) {
      this.plot.setData(data, false);
      this.plot.setScale("x", { min: this.answer.since, max: this.answer.until });
      return;
    }
    this.plot?.destroy();
    this.element.replaceChildren();
    const range = (self, min, max) => [this.answer.since, this.answer.until];
    this.plot = new uPlot({ width: this.width(), height: 180, ...options, scales: { ...options.scales, x: { time: true, range } } }, data, this.element);
  }

  recolour() { this.plot?.destroy(); this.plot = null; this.render(); }
}

const when = (self, at) => (at === null ? "now" : new Date(at * 1000).toLocaleTimeString("en-GB"));

/** What the legend says of a series: at the pointer, else the last value. */
const latest = (text) => (self, value, series, index) => text(index === null ? self.data[series].at(-1) : value);

const worst = (ages) => ages.reduce((most, age) => (age === null ? most : Math.max(most ?? 0, age)), null);

/** The age of the oldest event of a stage over time. */
export function ageChart(element, request) {
  return new Live(element, request, (answer) => ({
    data: withGaps(answer.at, [answer.seconds.map(worst)], answer.step),
    options: {
      legend: { show: true },
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (self, min, max) => [0, Math.max(1, (max ?? 1) * 1.1)] } },
      axes: [axis(time, 28), axis((self, splits) => splits.map((each) => duration(each)), 72, { incrs: SECONDS })],
      series: [
        { label: "time", value: when },
        { label: "oldest event waits for", stroke: colour("accent"), width: 1.5, fill: fade("accent"), points: { show: false }, value: latest((age) => (age === null ? "not seen" : duration(age))) },
      ],
    },
  }));
}

/** Events in and out on one axis, with marks for what happened. */
export function rateChart(element, request, marks) {
  return new Live(element, request, (answer) => ({
    data: withGaps(answer.at, [answer.rate_in, answer.rate_out], answer.step),
    options: {
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (self, min, max) => [0, Math.max(1, (max ?? 1) * 1.1)] } },
      axes: [axis(time, 28), axis((self, splits) => splits.map(rate), 60)],
      hooks: { draw: [(self) => drawMarks(self, marks())] },
      series: [
        { label: "time", value: when },
        { label: "appended", stroke: colour("soft"), width: 1.5, dash: [4, 3], points: { show: false }, value: latest(rate) },
        { label: "applied", stroke: colour("accent"), width: 1.5, points: { show: false }, value: latest(rate) },
      ],
    },
  }));
}

function fade(name) {
  return colour(name).replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");
}

function drawMarks(plot, marks) {
  const { ctx } = plot;
  const { left, top, width, height } = plot.bbox;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("warn");
  ctx.lineWidth = devicePixelRatio;
  for (const mark of marks) {
    const x = Math.round(plot.valToPos(Date.parse(mark.at) / 1000, "x", true));
    if (x < left || x > left + width) continue;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.fillRect(x - 3 * devicePixelRatio, top, 6 * devicePixelRatio, 6 * devicePixelRatio);
  }
  ctx.restore();
}
