// The page: takes the board from the stream and gives each part of the page what it shows.
// No part keeps a copy of the truth: everything is drawn from the last board, and says how old that is.
import { badge, brief, byId, clock, count, draw, duration, errorName, eta, h, parkedIn, rate, say, shortened, span, table } from "/static/dom.js";
import { Strip } from "/static/strip.js";
import { Trends } from "/static/trends.js";
import { installSearch } from "/static/search.js";
import { Redrive } from "/static/actions.js";

const QUIET = 5; // seconds without a board after which the page says so; one comes every second

const strip = new Strip(byId("strip"));
const trends = new Trends();
const redrive = new Redrive();
const page = { board: null, received: 0, open: false, lostAt: null };

// -- the stream ------------------------------------------------------------------------------------------------------

function listen() {
  const stream = new EventSource("/events");
  stream.addEventListener("open", () => { page.open = true; page.lostAt = null; tick(); });
  stream.addEventListener("board", (message) => show(JSON.parse(message.data)));
  stream.addEventListener("error", () => {
    page.open = false;
    page.lostAt ??= Date.now();
    tick();
    // The browser tries again by itself unless the server answered with an error.
    if (stream.readyState === EventSource.CLOSED) { stream.close(); setTimeout(listen, 2000); }
  });
}

function show(board) {
  page.board = board;
  page.received = Date.now();
  page.open = true;
  page.lostAt = null;
  headline(board);
  strip.show(board);
  trends.show(board);
  parked(board);
  redrive.show(board);
  relays(board);
  builds(board);
  groups(board);
  sources(board);
  tick();
}

/** What changes though nothing came: ages, and whether anything comes. */
function tick() {
  const { board, received } = page;
  const silence = (Date.now() - (received || page.lostAt || Date.now())) / 1000;
  const lost = page.lostAt !== null || (board !== null && silence > QUIET);
  document.body.classList.toggle("stale", lost);
  byId("link").classList.toggle("lost", lost);
  if (lost) say(byId("link-text"), board ? `No news from the board for ${duration(silence)}; trying again` : "Can’t reach the board; trying again");
  else say(byId("link-text"), board ? "Live" : "Connecting");
  if (!board) return;
  const age = board.headline.age + silence;
  say(byId("headline-age"), `Data of ${clock(board.headline.as_of)}, ${duration(age)} old`);
}

// -- the headline ----------------------------------------------------------------------------------------------------

let stateShown = "";

function headline(board) {
  draw(byId("headline"), coded(board.headline.text.replace(/(\d) (?=(s|min|h|d)\b)/g, "$1\u00a0"))); // no line ends within a time
  if (stateShown !== board.headline.state) {
    byId("headline-state").replaceChildren(badge(board.headline.state));
    // Seconds change all the time; who listens to the page is told when the state does.
    if (stateShown) say(byId("announce"), board.headline.text);
    stateShown = board.headline.state;
  }
  document.title = board.headline.state === "UP_TO_DATE" ? "Millrace board" : `${board.headline.text.slice(0, 60)} · Millrace`;
  const refusals = (board.stores ?? []).filter((store) => store.refuses).map((store) => `${store.service}: ${store.reason}`);
  const unseen = board.sources.filter((source) => !source.seen).map(
    (source) => `${source.name}: can’t see it${source.age === null ? "" : ` for ${duration(source.age)}`}${source.problem ? ` (${source.problem})` : ""}`,
  );
  const notices = byId("notices");
  notices.hidden = refusals.length + unseen.length === 0;
  draw(notices, refusals.map((text) => h("li", { class: "refusal" }, coded(text))), unseen.map((text) => h("li", {}, text)));
}

/** A text whose commands are between backticks. */
const coded = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part)).filter(Boolean);

// -- the tables ------------------------------------------------------------------------------------------------------

const put = (id, rows, none, make) => draw(byId(id), rows.length ? make(rows) : h("p", { class: "none" }, none));

function parked(board) {
  const total = board.parked.reduce((sum, each) => sum + each.streams, 0);
  const of = (errorClass) => board.parked.reduce((sum, each) => sum + (each.error_class === errorClass ? each.streams : 0), 0);
  say(byId("parked-count"), parkedIn(total, of("StreamConflict"), of("ForeignRecord")));
  put("parked", board.parked, "No stream is parked.", (rows) => h("div", {},
    table([["Consumer"], ["Error", "wide"], ["Streams", "n"], ["Events", "n"], ["Oldest", "n"]],
      rows.map((each) => [each.consumer, errorName(each.error_class), count(each.streams), count(each.events), duration(each.oldest)]),
      "Parked streams by error"),
    board.parked_streams.length
      ? table([["Oldest streams", "wide"], ["Event"], ["Error", "wide"], ["Tries", "n"]],
          board.parked_streams.slice(0, 8).map((each) => [
            each.error_class === "ForeignRecord" ? h("span", { class: "mono" }, shortened(each.stream_id)) : finder(each.stream_id),
            each.event_type ?? "?", `${errorName(each.error_class)}: ${each.error}`, count(each.attempts)]),
          "The oldest parked streams")
      : null));
}

/** An id that can be looked for. */
export function finder(id) {
  return h("a", { class: "mono", href: `#find=${encodeURIComponent(id)}` }, shortened(id));
}

function relays(board) {
  put("relays", board.relays, "No relay was seen.", (rows) => table(
    [["Topic"], ["Leader", "line"], ["Standing by", "n"], ["Fencing token", "n"], ["Position", "n"], ["Behind", "n"]],
    rows.map((each) => [
      each.topic, each.leader === null ? "nobody" : `session ${each.leader}`, count(each.standing_by), count(each.fencing_token),
      count(each.position), each.republish_until === null ? count(Math.max(0, each.head - each.position)) : `republishing to ${count(each.republish_until)}`]),
    "Relays"));
}

function builds(board) {
  put("builds", board.builds, "No read model is being rebuilt.", (rows) => table(
    [["Read model"], ["Progress", "wide"], ["Rate", "n"], ["Left"]],
    rows.map((each) => [
      `${each.model} ${each.version} (${each.copy})`,
      each.fraction === null ? count(each.position)
        : h("span", {}, h("progress", { max: 1, value: each.fraction, "aria-label": `${each.model} ${each.version}` }), ` ${Math.floor(each.fraction * 100)} %`),
      rate(each.rate), each.building ? eta(each.eta) : each.built ? "built" : "paused"]),
    "Rebuilds"));
}

function groups(board) {
  draw(byId("groups"),
    board.groups.length ? table(
      [["Group", "wide"], ["State"], ["Members", "n"], ["Rebalances", "n"]],
      board.groups.map((each) => [each.name, each.state || "?", count(each.members.length), count(each.rebalances)]), "Consumer groups")
      : h("p", { class: "none" }, "No consumer group was seen."),
    board.topics.length ? table(
      [["Topic", "wide"], ["Records", "n"], ["In", "n"], ["Retention margin", "n"]],
      board.topics.map((each) => [
        each.exists ? each.name : `${each.name} (does not exist)`, brief(records(each)), rate(each.rate),
        each.margin === null ? "no consumer reads it" : `${brief(each.margin)} records`]), "Topics") : null);
}

const records = (topic) => Object.entries(topic.log_ends).reduce((sum, [partition, end]) => sum + end - (topic.log_starts[partition] ?? 0), 0);

function sources(board) {
  const skew = Math.max(0, ...board.sources.map((each) => Math.abs(each.clock_offset ?? 0)));
  say(byId("skew"), `clocks differ by ${span(skew)} at most`);
  put("sources", board.sources, "Nothing yet.", (rows) => table(
    [["Server"], ["Seen"], ["Clock", "n"], ["Answers in", "n"]],
    rows.map((each) => [
      each.name, each.seen ? "now" : `${each.age === null ? "never" : `${duration(each.age)} ago`}${each.problem ? `: ${each.problem}` : ""}`,
      each.clock_offset === null ? "?" : `${each.clock_offset < 0 ? "−" : "+"}${span(Math.abs(each.clock_offset))} ± ${span(each.clock_error ?? 0)}`,
      each.round_trip === null ? "?" : span(each.round_trip)]), "Servers"));
  say(byId("pass"), `Look ${count(board.number)} took ${span(board.took)}`);
}

// -- the theme -------------------------------------------------------------------------------------------------------

const THEMES = ["system", "dark", "light"];

function theme(chosen) {
  if (chosen === "system") { delete document.documentElement.dataset.theme; localStorage.removeItem("theme"); }
  else { document.documentElement.dataset.theme = chosen; localStorage.setItem("theme", chosen); }
  say(byId("theme"), `Theme: ${chosen}`);
  trends.recolour();
  strip.recolour();
}

byId("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "system";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { trends.recolour(); strip.recolour(); });
say(byId("theme"), `Theme: ${document.documentElement.dataset.theme ?? "system"}`);

installSearch();
setInterval(tick, 1000);
listen();
