// How objects come: a list in pages, then a watch that is resumed where it broke. Nothing here knows what objects mean.
//
// Watches are WebSockets: they end in messages, and there may be more of them than a browser has connections for requests, which
// is six without HTTP/2, as through `kubectl proxy`.

const PAGE_OBJECTS = 500;
const LONGEST_PAUSE_MS = 30_000;
const REFUSED_PAUSE_MS = 60_000;
// Bookmarks come about once a minute: a connection that says nothing for longer is dead and does not know it.
const SILENCE_MS = 180_000;
const STEADY_MS = 5_000;

class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const api = {
  // In front of everything, for proxies that serve below a path.
  base: location.pathname.replace(/\/ui\/?$/, ""),
  token: "",
  // How far this clock is behind the server's.
  skewMs: 0,

  headers() {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    return headers;
  },

  async ask(path, signal, body) {
    const headers = this.headers();
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      const method = body ? "POST" : "GET";
      response = await fetch(this.base + path, { method, headers, body, signal, cache: "no-store" });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new ApiError(0, "The API server cannot be reached");
    }
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (date) this.skewMs = date - Date.now();
    const text = await response.text();
    let told;
    try {
      told = JSON.parse(text);
    } catch {
      told = { message: text.trim().slice(0, 300) };
    }
    if (!response.ok) throw new ApiError(response.status, told.message || `The API server answered ${response.status}`);
    return told;
  },

  nowMs() {
    return Date.now() + this.skewMs;
  },

  socket(path) {
    const url = new URL(this.base + path, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    // Browsers set no headers on these: Kubernetes takes a token as a protocol, beside another one that is chosen.
    const letters = btoa(String.fromCharCode(...new TextEncoder().encode(this.token)));
    const encoded = letters.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    return new WebSocket(url, this.token ? [`base64url.bearer.authorization.k8s.io.${encoded}`, "watch.k8s.io"] : []);
  },
};

// Until the time is over, the page is seen or left, the network is there again, or the signal says so.
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(over, ms);
    function over() {
      clearTimeout(timer);
      window.removeEventListener("online", over);
      document.removeEventListener("visibilitychange", over);
      signal.removeEventListener("abort", over);
      resolve();
    }
    window.addEventListener("online", over);
    document.addEventListener("visibilitychange", over);
    signal.addEventListener("abort", over);
  });
}

// What nobody here reads is not kept.
function lean(object) {
  delete object.metadata.managedFields;
  delete object.metadata.annotations;
  return object;
}

// All objects of a collection, kept as they are now.
class Feed {
  // `changed` is told whenever objects or state are others; `nobody` when it must be said first who looks.
  constructor(path, changed, nobody) {
    this.path = path;
    this.changed = changed;
    this.nobody = nobody;
    this.items = new Map();
    // "loading", "live", "waiting" (to be connected again), "refused".
    this.state = "loading";
    this.said = "";
    this.version = "";
    this.whole = false;
  }

  is(state, said = "") {
    this.state = state;
    this.said = said;
    this.changed();
  }

  async run(signal) {
    let failures = 0;
    while (!signal.aborted) {
      let longest = LONGEST_PAUSE_MS;
      try {
        if (!this.version) await this.list(signal);
        const { steady, opened, gone } = await this.follow(signal);
        if (signal.aborted) return;
        if (steady) failures = 0;
        // The list says why nothing can be followed.
        if (gone || !opened) this.version = "";
        if (gone && steady) continue;
        this.is("waiting", "The connection is lost");
      } catch (error) {
        if (signal.aborted) return;
        this.version = "";
        if (error.code === 401) return void this.nobody(error);
        if (error.code === 403) {
          longest = REFUSED_PAUSE_MS;
          failures = Infinity;
          this.items.clear();
          this.is("refused", error.message);
        } else {
          this.is("waiting", error.message);
        }
      }
      failures += 1;
      const ms = Math.min(longest, 250 * 2 ** failures);
      // Not all pages at once.
      await pause(ms * (0.5 + Math.random() / 2), signal);
      if (failures === Infinity) failures = 0;
    }
  }

  async list(signal) {
    const items = new Map();
    // The first time there is something to see before all is there.
    if (!this.whole) this.items = items;
    let next = "";
    do {
      // Whatever the server knows, at once: the watch tells the rest, and a store without a majority is no reason to see nothing.
      const where = next ? `continue=${encodeURIComponent(next)}` : "resourceVersion=0";
      const told = await api.ask(`${this.path}?limit=${PAGE_OBJECTS}&${where}`, signal);
      for (const object of told.items ?? []) items.set(object.metadata.uid, lean(object));
      next = told.metadata.continue ?? "";
      this.version = next ? "" : told.metadata.resourceVersion;
      this.changed();
    } while (next);
    this.items = items;
    this.whole = true;
    this.changed();
  }

  follow(signal) {
    return new Promise((resolve) => {
      const query = `watch=true&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(this.version)}`;
      const socket = api.socket(`${this.path}?${query}`);
      let openedMs = 0;
      let gone = false;
      let silence;
      const end = () => socket.close();
      const heard = () => {
        clearTimeout(silence);
        silence = setTimeout(end, SILENCE_MS);
      };
      heard();
      signal.addEventListener("abort", end);
      socket.onopen = () => {
        openedMs = Date.now();
        heard();
        this.is("live");
      };
      socket.onmessage = (message) => {
        heard();
        if (this.take(JSON.parse(message.data))) return;
        gone = true;
        end();
      };
      socket.onclose = () => {
        clearTimeout(silence);
        signal.removeEventListener("abort", end);
        const opened = openedMs > 0;
        resolve({ opened, gone, steady: opened && Date.now() - openedMs > STEADY_MS });
      };
    });
  }

  // Whether the watch goes on: not when what it would tell next is forgotten.
  take({ type, object }) {
    if (type === "ERROR") return false;
    this.version = object.metadata.resourceVersion;
    if (type === "BOOKMARK") return true;
    if (type === "DELETED") this.items.delete(object.metadata.uid);
    else this.items.set(object.metadata.uid, lean(object));
    this.changed();
    return true;
  }
}
