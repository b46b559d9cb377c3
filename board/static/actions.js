// Acting: the redrive of parked streams, by anyone who has the operator token. It is tried first, always; what would become of
// it is shown; then it is confirmed. The service carries it out; this page only asks, and looks what became of it.
import { byId, clock, count, h, say, table } from "/static/dom.js";

const LOOK_EVERY = 500; // milliseconds
const PATIENCE = 4000; // milliseconds after which it says that no process has begun
const TOKEN = "operator-token"; // of this tab only: sessionStorage
const NAME = "operator-name";

const plural = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

class Refused extends Error {}

export class Redrive {
  constructor() {
    this.dialog = byId("redrive");
    this.board = null;
    this.tried = null; // what was tried and may now be confirmed
    this.turn = 0; // goes up when the dialog closes or something else is chosen: what is still under way is not shown
    byId("redrive-open").addEventListener("click", () => this.open());
    byId("redrive-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.reset());
    byId("redrive-form").addEventListener("submit", (event) => { event.preventDefault(); this.tryIt(); });
    byId("redrive-what").addEventListener("change", () => this.reset());
    byId("redrive-confirm").addEventListener("click", () => this.confirm());
    byId("redrive-past").addEventListener("toggle", () => { if (byId("redrive-past").open) this.list(); });
  }

  show(board) {
    this.board = board;
    byId("redrive-open").disabled = false;
  }

  async open() {
    const choices = choicesOf(this.board);
    byId("redrive-what").replaceChildren(...choices);
    byId("redrive-what").disabled = byId("redrive-try").disabled = choices.length === 0;
    byId("redrive-token").value = sessionStorage.getItem(TOKEN) ?? "";
    byId("redrive-who").value = localStorage.getItem(NAME) ?? "";
    byId("redrive-past").open = false;
    this.reset();
    if (!choices.length) this.tell("No stream is parked.");
    this.dialog.showModal();
    try {
      const state = await (await fetch("/actions/state")).json();
      if (!state.on) { byId("redrive-try").disabled = true; this.tell(state.detail, true); }
    } catch { this.tell("The board can’t be reached; try again", true); }
  }

  reset() {
    this.turn += 1;
    this.tried = null;
    byId("redrive-confirm").hidden = true;
    byId("redrive-said").replaceChildren();
  }

  async tryIt() {
    this.reset();
    const wanted = { ...JSON.parse(byId("redrive-what").value), who: byId("redrive-who").value.trim() };
    const turn = this.turn;
    const action = await this.carryOut({ ...wanted, dry_run: true });
    if (!action || turn !== this.turn) return;
    const { streams, problem } = action.outcome;
    this.told(action, "would be applied", "would flow again", "would fail again");
    if (problem || !streams) return;
    this.tried = wanted;
    const button = byId("redrive-confirm");
    say(button, `Redrive ${plural(streams, "stream")}`);
    button.hidden = button.disabled = false;
    button.focus();
  }

  async confirm() {
    const wanted = this.tried;
    if (!wanted) return;
    this.tried = null;
    byId("redrive-confirm").disabled = true; // a second click is no second request
    const turn = this.turn;
    const action = await this.carryOut({ ...wanted, dry_run: false, confirmed: true });
    if (turn !== this.turn) return;
    byId("redrive-confirm").hidden = true;
    if (!action) return;
    this.told(action, "applied", "flow again", "failed again");
    byId("redrive-close").focus();
    if (byId("redrive-past").open) this.list();
  }

  /** Asks, and returns the action when it is done; null when it was refused (which is said) or nobody waits any more. */
  async carryOut(wanted) {
    const turn = this.turn;
    const began = Date.now();
    sessionStorage.setItem(TOKEN, byId("redrive-token").value.trim());
    localStorage.setItem(NAME, wanted.who);
    this.tell(wanted.dry_run ? "Asked the service to try it…" : "Asked the service to redrive…");
    try {
      const made = await this.ask("/actions/redrive", { method: "POST", body: JSON.stringify(wanted), headers: { "Content-Type": "application/json" } });
      while (turn === this.turn) {
        const action = await this.ask(`/actions/${encodeURIComponent(made.service)}/${encodeURIComponent(made.id)}`);
        if (turn !== this.turn) return null;
        if (action.done_at) return action;
        if (action.taken_at) this.tell(`${plural(action.outcome?.streams ?? 0, "stream")} so far…`);
        else if (Date.now() - began > PATIENCE) this.tell(`No process of ${made.service} has begun it yet. It is written down, and is done when the service is there; nobody needs to wait here.`);
        await new Promise((resolve) => { setTimeout(resolve, LOOK_EVERY); });
      }
    } catch (error) {
      if (turn === this.turn) this.tell(error instanceof Refused ? error.message : "The board can’t be reached; look at what was done before", true);
    }
    return null;
  }

  async ask(path, options = {}) {
    const token = byId("redrive-token").value.trim();
    // A header holds no more than this; what else is typed there is not the token.
    if (!/^[\x21-\x7e]+$/.test(token)) throw new Refused("This needs the operator token.");
    const response = await fetch(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } });
    if (response.ok) return response.json();
    if (response.status === 401) { sessionStorage.removeItem(TOKEN); byId("redrive-token").focus(); }
    const problem = await response.json().catch(() => ({}));
    throw new Refused(problem.detail ?? `The board answers ${response.status}`);
  }

  async list() {
    const shown = byId("redrive-list");
    try {
      const { actions, unseen } = await this.ask("/actions");
      shown.replaceChildren(
        ...Object.entries(unseen).map(([service, why]) => h("p", { class: "none" }, `${service}: can’t see it (${why})`)),
        actions.length ? table([["When"], ["Who"], ["What", "wide"], ["Outcome", "wide"]], actions.map(row), "What operators did") : h("p", { class: "none" }, "Nothing was done yet."));
    } catch (error) {
      shown.replaceChildren(h("p", { class: "none" }, error instanceof Refused ? error.message : "The board can’t be reached; try again"));
    }
  }

  tell(text, bad = false) {
    byId("redrive-said").replaceChildren(h("p", { class: bad ? "bad" : null }, text));
  }

  told(action, applied, flows, fails) {
    const failed = action.outcome.results.filter((one) => one.error !== null);
    byId("redrive-said").replaceChildren(
      h("p", {}, summary(action.outcome, applied, flows)),
      failed.length ? table([["Stream", "wide"], ["Applied", "n"], ["Left", "n"], [`Why it ${fails}`, "wide"]],
        failed.map((one) => [one.stream_id, count(one.applied), count(one.left), one.error]), `Streams whose event ${fails}`) : "");
  }
}

function summary(outcome, applied, flows) {
  if (outcome.problem) return `Nothing: ${outcome.problem}.`;
  const of = outcome.flowing === outcome.streams ? plural(outcome.streams, "stream") : `${count(outcome.flowing)} of ${plural(outcome.streams, "stream")}`;
  return `${of} ${flows}: ${plural(outcome.applied, "event")} ${applied}, ${count(outcome.left)} left parked.`;
}

function row(action) {
  const what = action.stream_id ?? (action.error_class ? `all with ${action.error_class}` : "all");
  const how = action.done_at ? summary(action.outcome, action.dry_run ? "would be applied" : "applied", action.dry_run ? "would flow again" : "flow again")
    : action.taken_at ? "under way" : "waits for the service";
  return [clock(action.requested_at), action.requested_by, `${action.consumer}: ${what}${action.dry_run ? " (tried only)" : ""}`, how];
}

/** What can be redriven: all of a consumer, all of one error, one of the oldest streams. */
function choicesOf(board) {
  const groups = new Map();
  for (const each of board?.parked ?? []) {
    const key = `${each.service} ${each.consumer}`;
    if (!groups.has(key)) groups.set(key, { service: each.service, consumer: each.consumer, streams: 0, errors: [] });
    const group = groups.get(key);
    group.streams += each.streams;
    group.errors.push(each);
  }
  return [...groups.values()].map(({ service, consumer, streams, errors }) => {
    const option = (more, text) => h("option", { value: JSON.stringify({ service, consumer, ...more }) }, text);
    const single = board.parked_streams.filter((each) => each.service === service && each.consumer === consumer);
    return h("optgroup", { label: consumer },
      option({}, `All of ${consumer}: ${plural(streams, "stream")}`),
      errors.length > 1 ? errors.map((each) => option({ error_class: each.error_class }, `${each.error_class}: ${plural(each.streams, "stream")}`)) : null,
      single.map((each) => option({ stream_id: each.stream_id }, `${each.stream_id} (${each.error_class})`)));
  });
}
