// "Where is my event?": an id, and every hop of what belongs to it.
import { byId, clock, draw, duration, h } from "/static/dom.js";

let asked = "";
let timer = null;

async function find(id) {
  clearTimeout(timer);
  asked = id;
  if (!id) return byId("found").replaceChildren();
  try {
    const response = await fetch(`/path/${encodeURIComponent(id)}`);
    const answer = await response.json();
    if (asked !== id) return;
    if (!response.ok) return tell(answer.detail ?? `The board answers ${response.status}`);
    show(answer);
    // What still waits is looked at again, for as long as the page is open on it.
    if (answer.events.some((event) => event.hops.some((hop) => hop.state === "waiting"))) timer = setTimeout(() => find(id), 2000);
  } catch (error) {
    if (asked === id) tell("The board can’t be reached; try again");
  }
}

const tell = (text) => draw(byId("found"), h("p", { class: "none hops" }, text));

function show(trace) {
  draw(byId("found"),
    h("p", { class: "hops" }, trace.text, trace.complete ? null : " Not everything could be looked through."),
    trace.events.map(travelled));
}

function travelled(event) {
  return h("ol", { class: "hops", "aria-label": `${event.type}, version ${event.version} of ${event.stream_id}` },
    h("li", { class: "event" },
      h("span", {}, event.type, h("span", { class: "mono hush" }, ` ${event.stream_id} `), h("span", { class: "hush small" }, `version ${event.version}, position ${event.position}`)),
      h("time", { datetime: event.committed_at }, clock(event.committed_at))),
    event.hops.map((hop) => step(event, hop)));
}

/** Where a hop is: "event store of order", "reservations of inventory". */
function place(hop) {
  const of = (service) => h("span", { class: "hush" }, ` of ${service}`);
  if (hop.kind === "store") return ["event store", of(hop.name)];
  if (hop.kind === "relay") return ["relay", of(hop.name)];
  if (hop.kind === "read model") return hop.path ? [hop.name, of(hop.path.split("/")[0])] : [hop.name];
  return [`${hop.kind} `, h("span", { class: "hush" }, hop.name)];
}

const CLASS = { passed: "passed", waiting: "waiting", parked: "waiting", unknown: "later" };

function step(event, hop) {
  const took = hop.at ? (Date.parse(hop.at) - Date.parse(event.committed_at)) / 1000 : null;
  // The commit is known exactly; of later hops, when the board first saw that they were passed.
  const seen = hop.kind === "store" ? clock(hop.at) : `by ${clock(hop.at)}, within ${duration(took)}`;
  const when = hop.state === "waiting" ? `waiting here for ${duration(hop.waiting)}`
    : hop.state === "parked" ? "parked" : hop.at ? seen : hop.state === "passed" ? "passed" : "not known";
  return h("li", { class: CLASS[hop.state] ?? "later" },
    h("span", {}, ...place(hop)),
    h("span", { class: "took" }, when),
    hop.text && hop.state !== "passed" ? h("span", { class: "detail" }, hop.text) : null);
}

/** The form, and links of the form #find=ID anywhere on the page. */
export function installSearch() {
  const input = byId("find-id");
  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = input.value.trim();
    const hash = `#find=${encodeURIComponent(id)}`;
    if (location.hash === hash) find(id);
    else location.hash = hash;
  });
  const follow = () => {
    const match = /^#find=(.+)$/.exec(location.hash);
    if (!match) return;
    let id;
    try { id = decodeURIComponent(match[1]); } catch { return; }
    input.value = id;
    find(id);
    byId("find").scrollIntoView({ block: "nearest" });
  };
  addEventListener("hashchange", follow);
  follow();
}
