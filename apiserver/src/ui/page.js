// The page itself: who looks, what is asked for, when it is shown, and the keyboard.

const MASTERS_PERIOD_MS = 5_000;
// Changes that come together are shown together; in large clusters that much more seldom that others have the most of the time.
const TOGETHER_MS = 120;
const TIMES_AS_LONG = 5;

const byId = (id) => document.getElementById(id);
const NAMES = Object.keys(SECTIONS);
const tables = {};
let seen = {};
let stop = new AbortController();
let wanted = 0;
let tookMs = 0;

function show() {
  wanted = 0;
  const began = performance.now();
  const filter = new Filter(byId("filter").value, byId("namespace").value);
  let trouble = 0;
  for (const name of NAMES) {
    const feeds = (name === "workloads" ? Object.keys(WORKLOADS) : [name]).map((one) => seen[one]);
    const { rows, all, count } = SECTIONS[name](seen, filter);
    const said = (state) => [...new Set(feeds.filter((feed) => feed.state === state && feed.said).map((feed) => feed.said))];
    const refused = said("refused");
    const notes = [...said("waiting"), ...(refused.length ? ["You may not see this:", ...refused] : [])];
    const loading = feeds.some((feed) => feed.state === "loading" && !feed.whole);
    let note = notes.join("\n");
    if (!note && rows.length === 0) {
      if (loading) note = "Asking…";
      else note = all.length ? "The filter takes none of them." : `There are no ${name === "masters" ? "members of a store" : name}.`;
    }
    const unknown = all.length === 0 && (loading || notes.length > 0);
    tables[name].show(rows, unknown ? "" : count, note);
    const nothing = { number: "–", level: "done", words: loading ? "asking" : "not known" };
    const { number, level, words } = unknown ? nothing : overview(name, all);
    const tile = byId(`to-${name}`);
    tile.dataset.level = level;
    setText(tile.querySelector(".number"), String(number));
    setText(tile.querySelector(".words"), words);
    if (name !== "events") trouble += all.filter((one) => (one.level ?? one.state.level) === "bad").length;
  }
  document.title = `${trouble ? `(${trouble}) ` : ""}Barque`;
  showNamespaces();
  showConnection();
  tookMs = performance.now() - began;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function showSoon() {
  wanted ||= setTimeout(() => requestAnimationFrame(show), Math.max(TOGETHER_MS, TIMES_AS_LONG * tookMs));
}

function showNamespaces() {
  const select = byId("namespace");
  const names = new Set();
  for (const collection of ["pods", "events", ...Object.keys(WORKLOADS)]) {
    for (const object of seen[collection].items.values()) names.add(object.metadata.namespace);
  }
  if (select.value) names.add(select.value);
  const sorted = [...names].sort(collator.compare);
  const options = [...select.options].slice(1).map((option) => option.value);
  if (sorted.length === options.length && sorted.every((name, at) => name === options[at])) return;
  const chosen = select.value;
  select.replaceChildren(select.options[0], ...sorted.map((name) => element("option", { value: name }, name)));
  select.value = chosen;
}

function showConnection() {
  const feeds = Object.keys(COLLECTIONS).map((name) => seen[name]);
  const is = (state) => feeds.some((feed) => feed.state === state);
  let [level, words] = ["done", "Nothing to follow"];
  if (is("waiting")) [level, words] = ["bad", "Connecting again"];
  else if (is("loading")) [level, words] = ["wait", "Connecting"];
  else if (is("live")) [level, words] = ["ok", "Live"];
  const told = byId("connection");
  told.dataset.level = level;
  setText(told.querySelector(".words"), words);
}

async function askForMasters(signal) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        const told = await api.ask("/ui/masters", AbortSignal.any([signal, AbortSignal.timeout(3 * MASTERS_PERIOD_MS)]));
        Object.assign(seen.masters, { members: told.members, state: "live", said: "", whole: true });
      } catch (error) {
        if (signal.aborted) return;
        if (error.code === 401) return void nobody(error);
        const state = error.code === 403 ? "refused" : "waiting";
        // What was known before is old, and the store may be what is broken.
        Object.assign(seen.masters, { members: [], state, said: error.message || "The API server is silent" });
      }
      showSoon();
    }
    await pause(MASTERS_PERIOD_MS, signal);
  }
}

async function begin() {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  seen = { masters: { members: [], state: "loading", said: "", whole: false } };
  for (const [name, path] of Object.entries(COLLECTIONS)) seen[name] = new Feed(path, showSoon, nobody);
  try {
    const review = JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" });
    const told = await api.ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", signal, review);
    setText(byId("who"), told.status?.userInfo?.username ?? "");
  } catch (error) {
    if (signal.aborted) return;
    if (error.code === 401) return void nobody(error);
    // Who it is need not be known to look.
    setText(byId("who"), "");
  }
  if (api.token) sessionStorage.setItem("barque-token", api.token);
  byId("sign-in").hidden = true;
  byId("status").hidden = false;
  byId("forget").hidden = !api.token;
  show();
  await Promise.all([...Object.keys(COLLECTIONS).map((name) => seen[name].run(signal)), askForMasters(signal)]);
}

// Nobody knows who looks: everything stops until a token says it.
function nobody() {
  const tried = api.token !== "";
  signOut();
  setText(byId("wrong"), tried ? "The API server does not take this token: it has expired, is not whole, or is of another cluster." : "");
  byId("wrong").hidden = !tried;
  byId("token").focus();
}

function signOut() {
  stop.abort();
  api.token = "";
  sessionStorage.removeItem("barque-token");
  setText(byId("who"), "");
  byId("forget").hidden = true;
  byId("status").hidden = true;
  byId("sign-in").hidden = false;
  byId("wrong").hidden = true;
  document.title = "Barque";
  const told = byId("connection");
  told.dataset.level = "done";
  setText(told.querySelector(".words"), "Not signed in");
}

function goTo(name) {
  const heading = byId(name).querySelector("h2");
  heading.focus({ preventScroll: true });
  heading.scrollIntoView({ block: "start" });
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || byId("help").open) return;
  const field = event.target.closest?.("input, select, textarea");
  if (event.key === "Escape" && event.target === byId("filter")) {
    byId("filter").value = "";
    byId("filter").blur();
    return show();
  }
  if (field) return;
  if (event.key === "?") byId("help").showModal();
  else if (byId("status").hidden) return;
  else if (event.key === "/") byId("filter").focus();
  else if (NAMES[Number(event.key) - 1]) goTo(NAMES[Number(event.key) - 1]);
  else return;
  event.preventDefault();
}

for (const name of NAMES) tables[name] = new Table(byId(name));
document.addEventListener("keydown", onKey);
byId("filter").addEventListener("input", () => show());
byId("namespace").addEventListener("change", () => show());
byId("show-help").addEventListener("click", () => byId("help").showModal());
byId("close-help").addEventListener("click", () => byId("help").close());
byId("forget").addEventListener("click", () => {
  signOut();
  byId("token").focus();
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.token = byId("token").value.trim();
  byId("token").value = "";
  begin();
});
for (const name of NAMES) {
  byId(`to-${name}`).addEventListener("click", (event) => {
    event.preventDefault();
    goTo(name);
  });
}
setInterval(() => document.hidden || showAges(document), 1000);
api.token = sessionStorage.getItem("barque-token") ?? "";
begin();
