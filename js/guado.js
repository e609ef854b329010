/**
 * Guado's client for the browser: one resumable channel between a page and its server.
 * Messages come once and in order, over WebSocket or, where that does not pass, over
 * server-sent events and POST. protocol/push.md is the wire; its twin is internal/push.
 * @module guado
 */

/**
 * @typedef {"connecting" | "open" | "waiting" | "paused" | "ended"} Status
 *
 * @typedef {object} State
 * @property {Status} status
 * @property {boolean} [resumed]  with "open": nothing was missed; otherwise a snapshot follows
 * @property {"tail" | "epoch" | "client" | "page"} [why]  with "open" and not resumed; "page": it is
 *   another page, which begins with what its handler says when it opens
 * @property {"websocket" | "sse"} [transport]  with "open"
 * @property {number} [delay]  with "waiting": milliseconds until the next try
 * @property {number} [code]  with "waiting" and "ended": why
 * @property {string} [reason]
 * @property {PushError} [error]  with "ended": what the application, or the server, said
 *
 * @typedef {object} Options
 * @property {string | (() => string | Promise<string>)} page  the page's id; a function is asked
 *   for another one when the page has ended on the server
 * @property {string} [url]  where push is; "/_guado/push"
 * @property {"auto" | "websocket" | "sse"} [transport]
 * @property {boolean} [beacon]  end the page on the server when its tab is closed; true
 * @property {number} [queue]  messages that may wait, at most; 1000
 *
 * @typedef {Omit<Options, "page"> & {page?: string}} Opening  `page`: one that the document has
 *   from the server; another one takes its place when it has ended
 *
 * @typedef {object} Sending
 * @property {string} [to]  what the message is for: a path of the application
 * @property {AbortSignal} [signal]  cancels a request, or a message that has not left
 *
 * @typedef {object} Item  a message that waits: to leave, or for its reply
 * @property {number} c  its number; 0 until it first leaves
 * @property {string} body
 * @property {boolean} request
 * @property {boolean} again  ask again: the reply may have been lost
 * @property {(value?: any) => void} resolve
 * @property {(reason: any) => void} reject
 *
 * @typedef {import("./carriers.js").Events} Events
 * @typedef {import("./carriers.js").Carrier} Carrier
 * @typedef {import("./values.js").Path} Path
 * @typedef {import("./values.js").Store} Store
 * @typedef {import("./values.js").Change} Change
 * @typedef {import("./values.js").Write} Write
 */

import { overSSE, overWebSocket } from "./carriers.js";
import { Typed, Values, encode, keysOf } from "./values.js";

export { Typed };

const FINAL = 3500; // codes from here on: do not come back
const RENEW = [3502, 3503, 3506, 3507]; // the page is over; another one may begin
const FINAL_STATUS = [400, 403, 404, 405, 413, 422]; // there will never be such a page
const PUSH = "/_guado/push";
const PATIENCE = 10000; // for the host's hello
const QUIET = 5000; // of the host, while messages wait for it: it is asked whether it is there
const MOST_DELAY = 30000;
const MOST_BYTES = 4 << 20; // of messages that wait

/** A message was refused, failed, or may be lost; `code` says which. */
export class PushError extends Error {
  /** @param {string} code @param {string} [message] */
  constructor(code, message) {
    super(message || code);
    this.name = "PushError";
    this.code = code;
  }
}

/** Opens the channel of a page. @param {Options} options */
export function connect(options) {
  return new Page(options);
}

/**
 * Opens a page of this document on the server, of a page class or of none, and its channel.
 * When the page has ended there, another one takes its place.
 * @param {string} [name]  of the page class
 * @param {object} [args]  what its handlers find as self.args
 * @param {Opening} [options]
 */
export function open(name, args, { page, ...options } = {}) {
  let first = page;
  return connect({
    ...options,
    async page() {
      const known = first;
      first = undefined;
      if (known) return known;
      const answer = await fetch(new URL("page", new URL(options.url || PUSH, location.href)), {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify({ path: location.pathname, class: name, args }),
        cache: "no-store", credentials: "include",
      });
      const { page: id, code, message } = await answer.json();
      // Others pass: no network, a server that starts.
      if (FINAL_STATUS.includes(answer.status)) throw Object.assign(new PushError(code, message), { status: answer.status });
      return id;
    },
  });
}

/** The channel of one page. Made by {@link connect}. */
export class Page {
  /** @type {Options} */ #options;
  /** @type {URL} */ #url;
  /** @type {Record<"message" | "snapshot" | "state", Set<(value: any) => void>>} */
  #listeners = { message: new Set(), snapshot: new Set(), state: new Set() };
  /** @type {State} */ #state = { status: "connecting" };
  /** @type {string | undefined} */ #page;
  #client = random();
  /** @type {string | undefined} */ #epoch;
  #another = false; // page than the one that was open before
  #at = 0; // the last frame that came
  #sequence = 0; // the last message that left
  /** @type {Item[]} */ #queue = [];
  #bytes = 0;
  #values = new Values();
  /** @type {Carrier | undefined} */ #carrier;
  /** @type {Partial<Record<"retry" | "hello" | "ack" | "probe" | "quiet" | "silence", any>>} */ #timers = {};
  #sse = false;
  #passed = false; // a WebSocket, since the last hello over server-sent events
  #tries = 0;
  #failures = 0; // without a hello, in this transport
  #window = 1000;
  #max = 1 << 20;
  #heard = 0;
  #unacked = 0; // bytes
  #since = 0; // when the first of them came
  #fetching = 0; // replies whose cookies are on their way
  /** @type {(() => void) | undefined} */ #last; // what is done when they are there
  /** @type {AbortController} */ #life = new AbortController();

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#sse = options.transport === "sse" || typeof WebSocket === "undefined";
    this.#url = new URL(options.url || PUSH, globalThis.location?.href);
    if (typeof options.page === "string") this.#page = options.page;
    if (typeof document !== "undefined") this.#watch();
    // What the caller adds in this turn hears of everything.
    queueMicrotask(() => this.#connect());
  }

  /** The page's id, once there is one: what a request says in its field Guado-Page. */
  get id() { return this.#page; }

  /** How the channel is now. */
  get state() { return this.#state; }

  /** Calls `listener` for each message; the function returned ends that. @param {(data: any) => void} listener */
  onMessage(listener) {
    return this.#listen("message", listener);
  }

  /** Calls `listener` with the state that takes the place of all that came before. @param {(data: any) => void} listener */
  onSnapshot(listener) {
    return this.#listen("snapshot", listener);
  }

  /** Calls `listener` when the state of the channel changes. @param {(state: State) => void} listener */
  onState(listener) {
    return this.#listen("state", listener);
  }

  /** Sends a message. The promise is kept once the server has it. @param {any} data @param {Sending} [sending] @returns {Promise<void>} */
  send(data, sending) {
    return this.#enqueue("m", data, sending);
  }

  /** Sends a request and gives its reply. @param {any} data @param {Sending} [sending] @returns {Promise<any>} */
  request(data, sending) {
    return this.#enqueue("q", data, sending);
  }

  /** What is at a path of what the server shares with this page; undefined: nothing. Changing it changes nothing. @param {Path} path @param {{store?: Store}} [of] @returns {any} */
  get(path, { store } = {}) {
    return this.#values.get(path, store);
  }

  /** Calls `listener` when what is shared changes at, below or above a path, but for what this page writes. @param {Path} path @param {(change: Change) => void} listener @param {{store?: Store}} [of] */
  onChange(path, listener, { store } = {}) {
    return this.#values.on(path, listener, store);
  }

  /** Writes what is shared. The promise is kept once it is done. @param {Path} path @param {any} value @param {{store?: Store}} [of] @returns {Promise<void>} */
  set(path, value, of) {
    return this.write([{ path, value, ...of }]);
  }

  /** Takes away what is at a path. @param {Path} path @param {{store?: Store}} [of] @returns {Promise<void>} */
  delete(path, of) {
    return this.write([{ path, delete: true, ...of }]);
  }

  /** Writes all of it, or nothing. @param {Write[]} list @returns {Promise<void>} */
  write(list) {
    if (list.some((one) => !one.delete && one.value === undefined)) return Promise.reject(new TypeError("undefined is no value: delete()"));
    const changes = list.map(({ path, value, store, ...one }) => ({
      path: keysOf(path), ...(store && store !== "page" && { store }), ...(one.delete ? { delete: true } : { value: encode(value) }),
    }));
    return this.#enqueue("w", changes).then(() => {});
  }

  /** Ends the page, here and on the server. */
  close() {
    if (this.#state.status === "ended") return;
    this.#bye();
    this.#end(3507, "ended");
  }

  /** @param {"message" | "snapshot" | "state"} kind @param {(value: any) => void} listener */
  #listen(kind, listener) {
    this.#listeners[kind].add(listener);
    return () => this.#listeners[kind].delete(listener);
  }

  /** @param {"message" | "snapshot" | "state"} kind @param {any} value */
  #emit(kind, value) {
    for (const listener of this.#listeners[kind]) {
      try {
        listener(value);
      } catch (e) {
        // The application's own affair: the channel goes on.
        (globalThis.reportError || console.error)(e);
      }
    }
  }

  /** @param {State} state */
  #set(state) {
    this.#state = state;
    this.#emit("state", state);
  }

  /** @param {"retry" | "hello" | "ack" | "probe" | "quiet" | "silence"} name @param {() => void} [call] @param {number} [ms] */
  #timer(name, call, ms) {
    if (this.#timers[name]) clearTimeout(this.#timers[name]);
    this.#timers[name] = call && setTimeout(() => {
      this.#timers[name] = undefined;
      call();
    }, ms);
  }

  async #connect() {
    if (this.#carrier || this.#state.status === "ended") return;
    this.#timer("retry");
    this.#set({ status: "connecting" });
    if (!this.#page) {
      try {
        const { page } = this.#options;
        this.#page = typeof page === "string" ? page : await page();
      } catch (e) {
        if (e instanceof PushError) return this.#end(/** @type {any} */ (e).status || FINAL, e.code, e);
      }
      if (!this.#page) return this.#retry(0, "no page");
      if (this.#carrier || this.#state.status !== "connecting") return;
    }
    const page = this.#page;
    const position = this.#epoch && { epoch: this.#epoch, at: this.#at };
    const hello = JSON.stringify({ t: "hello", v: 1, page, client: this.#client, ...position });
    /** @type {Events} */
    const on = {
      open: () => carrier.send(hello),
      frame: (text) => carrier === this.#carrier && this.#frame(text),
      lost: (code, reason) => carrier === this.#carrier && this.#lost(code, reason),
    };
    const carrier = this.#sse ? overSSE(this.#url, hello, page, on) : overWebSocket(this.#url, on);
    this.#carrier = carrier;
    this.#timer("hello", () => this.#lost(0, "no hello"), PATIENCE);
  }

  /** Lets the carrier go, whatever it is doing. */
  #drop() {
    this.#carrier?.close();
    this.#carrier = undefined;
    for (const name of /** @type {const} */ (["hello", "ack", "probe", "quiet", "silence"])) this.#timer(name);
  }

  /** @param {number} code @param {string} reason @param {PushError} [error] */
  #lost(code, reason, error) {
    const opened = this.#state.status === "open";
    this.#drop();
    if (code >= FINAL && code < 4000) {
      if (!RENEW.includes(code) || typeof this.#options.page === "string") {
        // Who loads the document anew because of it needs the cookies of a logout for that.
        const end = () => this.#end(code, reason, error);
        return void (this.#fetching ? (this.#last = end) : end());
      }
      // Another page takes its place; this one's client is not known there.
      this.#page = this.#epoch = undefined;
      this.#client = random();
      this.#at = 0;
      this.#another = true;
      this.#forsake();
    }
    // Some proxies let no WebSocket pass: the other transport then has its turn.
    if (opened || code >= 3000) this.#failures = 0;
    else if (++this.#failures % 2 === 0 && (this.#options.transport || "auto") === "auto") {
      this.#sse = !this.#sse || typeof WebSocket === "undefined";
    }
    this.#retry(code, reason);
  }

  /** @param {number} code @param {string} reason */
  #retry(code, reason) {
    const most = Math.max(this.#window, MOST_DELAY);
    const delay = Math.random() * Math.min(this.#window * 2 ** this.#tries++, most);
    this.#timer("retry", () => this.#connect(), delay);
    this.#set({ status: "waiting", delay, code, reason });
  }

  /** @param {number} code @param {string} reason @param {PushError} [error] */
  #end(code, reason, error) {
    this.#drop();
    this.#timer("retry");
    this.#life.abort();
    const queue = this.#queue;
    this.#queue = [];
    for (const item of queue) item.reject(error || new PushError(item.c ? "lost" : "ended", reason));
    this.#set({ status: "ended", code, reason, ...(error && { error }) });
  }

  /** Gives up messages that left: the server that knew of them is gone. */
  #forsake() {
    const left = this.#queue.filter((i) => i.c);
    for (const item of left) this.#settle(item, item.reject, new PushError("lost", "the server may have it, or not"));
  }

  /** @param {string} text */
  #frame(text) {
    let f;
    try {
      f = JSON.parse(text);
    } catch {
      return this.#lost(0, "malformed frame");
    }
    this.#heard = Date.now();
    if (f.t === "close") return this.#lost(f.code, f.reason, f.e && new PushError(f.e.code, f.e.message));
    if (f.t === "hello") return this.#hello(f);
    if (this.#state.status !== "open") return this.#lost(0, "no hello");
    if (f.n) return this.#numbered(f, text.length);
    if (f.g) return this.#got(f.g);
    if (f.p) return this.#timer("probe");
    if (f.t === "window") this.#window = f.ms;
    else if (!f.t) this.#ack();
  }

  /** @param {any} f */
  #hello(f) {
    this.#timer("hello");
    this.#tries = this.#failures = 0;
    if (!this.#sse) this.#passed = true;
    else if (this.#passed && this.#options.transport !== "sse") {
      // It was the host that was away, and not WebSockets that do not pass: they have a turn again.
      this.#passed = this.#sse = false;
      this.#drop();
      return this.#connect();
    }
    this.#window = f.window;
    this.#max = f.max;
    if (f.epoch !== this.#epoch && !f.kept) {
      this.#forsake();
      this.#sequence = f.got;
    } else if (!f.resumed) {
      for (const item of this.#queue) item.again ||= item.request && item.c > 0;
    }
    this.#epoch = f.epoch;
    this.#at = f.at;
    this.#unacked = this.#since = 0;
    const { resumed, why } = this.#another ? { resumed: false, why: "page" } : f;
    this.#another = false;
    if (!resumed) this.#values.anew();
    this.#state = { status: "open", resumed, ...(why && { why }), transport: this.#sse ? "sse" : "websocket" };
    this.#got(f.got);
    this.#listenOn(f.beat);
    for (const item of [...this.#queue]) {
      if (!item.c || item.c > f.got || item.again) this.#transmit(item);
    }
    // What waited has left: a listener that sends now is behind it.
    this.#emit("state", this.#state);
  }

  /** Looks whether the host still gives signs of life. @param {number} beat */
  #listenOn(beat) {
    const look = () => (Date.now() - this.#heard > 2 * beat ? this.#lost(0, "silent") : this.#listenOn(beat));
    this.#timer("silence", look, beat);
  }

  /** @param {any} f @param {number} size */
  #numbered(f, size) {
    if (f.n !== this.#at + 1) return this.#lost(0, "gap"); // the host decides what is missing
    this.#at = f.n;
    this.#unacked += size;
    this.#since ||= Date.now();
    if ("m" in f) this.#emit("message", f.m);
    else if ("s" in f) this.#emit("snapshot", f.s);
    else if (f.h) this.#values.all(f.h);
    else if (f.v) this.#values.changes(f.v, (c) => this.#wrote(c));
    else if (f.r) this.#reply(f);
    if (!this.#since || this.#state.status !== "open") return;
    // Timers of hidden pages sleep for a minute: the next frame then takes their place.
    if (f.w || this.#unacked > 32768 || Date.now() - this.#since > 5000) this.#ack();
    else if (!this.#timers.ack) this.#timer("ack", () => this.#ack(), this.#sse ? 3000 : 1000);
  }

  /** What message `c` writes. @param {number} c @returns {any[]} */
  #wrote(c) {
    const item = this.#queue.find((i) => i.c === c);
    return (item && JSON.parse(`{${item.body}}`).w) ?? [];
  }

  #ack() {
    this.#post("");
  }

  /** Sends a frame, and with it what came. @param {string} body */
  #post(body) {
    this.#timer("ack");
    this.#unacked = this.#since = 0;
    this.#carrier?.send(`{"a":${this.#at}${body && "," + body}}`);
  }

  /** Messages up to this one have arrived. @param {number} got */
  #got(got) {
    for (const item of this.#queue.filter((i) => i.c && i.c <= got && !i.request)) this.#settle(item, item.resolve);
  }

  /** @param {any} f */
  #reply(f) {
    const item = this.#queue.find((i) => i.c === f.r);
    if (item && f.k) this.#settle(item, () => this.#fetch(item, f));
    else if (item && f.e) this.#settle(item, item.reject, new PushError(f.e.code, f.e.message));
    else if (item) this.#settle(item, item.resolve, f.d);
    this.#got(f.r);
  }

  /** Cookies come over HTTP only: first they, then the reply. @param {Item} item @param {any} f */
  async #fetch(item, f) {
    this.#fetching++;
    const body = JSON.stringify({ t: "cookies", page: this.#page, k: f.k });
    const post = async () => {
      const signal = AbortSignal.timeout(PATIENCE);
      return fetch(this.#url, { method: "POST", body, credentials: "include", signal }).then((a) => a.ok, () => false);
    };
    if ((await post()) || (await post())) item.resolve(f.d);
    else item.reject(new PushError("cookies", "it was done, but its cookies could not be fetched"));
    // Whoever waits for the reply goes on before.
    if (!--this.#fetching) setTimeout(() => this.#last?.());
  }

  /** @param {Item} item @param {(value?: any) => void} call @param {any} [value] */
  #settle(item, call, value) {
    this.#queue = this.#queue.filter((i) => i !== item);
    this.#bytes -= item.body.length;
    call(value);
  }

  /** @param {"m" | "q" | "w"} kind @param {any} data @param {Sending} [sending] @returns {Promise<any>} */
  #enqueue(kind, data, { to, signal } = {}) {
    const promise = new Promise((resolve, reject) => {
      const { status, reason } = this.#state;
      const text = JSON.stringify(data) ?? "null";
      const body = (to ? `"to":${JSON.stringify(to)},` : "") + `"${kind}":${text}`;
      signal?.throwIfAborted();
      if (status === "ended") throw new PushError("ended", reason);
      const size = text.length * 3 > this.#max ? new TextEncoder().encode(text).length : 0;
      if (size > this.#max) throw new PushError("too_big", `${size} bytes of JSON, where the server takes ${this.#max}`);
      if (this.#queue.length >= (this.#options.queue ?? 1000) || this.#bytes + body.length > MOST_BYTES) {
        throw new PushError("full", "too many messages wait");
      }
      const item = this.#add(body, kind !== "m", resolve, reject);
      signal?.addEventListener("abort", () => this.#cancel(item, signal.reason), { signal: this.#life.signal });
    });
    // Who sends and does not look gets no error of the page at its end.
    promise.catch(() => {});
    return promise;
  }

  /** @param {string} body @param {boolean} request @param {(value?: any) => void} resolve @param {(reason: any) => void} reject */
  #add(body, request, resolve, reject) {
    const item = { c: 0, body, request, again: false, resolve, reject };
    this.#queue.push(item);
    this.#bytes += body.length;
    if (this.#state.status === "open") this.#transmit(item);
    return item;
  }

  /** @param {Item} item */
  #transmit(item) {
    item.c ||= ++this.#sequence;
    this.#post(`"c":${item.c},${item.body}`);
    this.#expect();
  }

  /** Something was sent: the host says something within QUIET, or is asked whether it is there. */
  #expect() {
    if (this.#timers.quiet) return;
    const look = () => this.#queue.length && (Date.now() - this.#heard < QUIET ? this.#expect() : this.#probe());
    this.#timer("quiet", look, Math.max(0, this.#heard + QUIET - Date.now()));
  }

  /** Asks whether the host is still there, and leaves a connection that says nothing. */
  #probe() {
    if (this.#timers.probe) return;
    this.#timer("probe", () => this.#lost(0, "no answer"), 5000);
    this.#carrier?.send('{"p":1}');
  }

  /** @param {Item} item @param {any} reason */
  #cancel(item, reason) {
    if (!this.#queue.includes(item)) return item.reject(reason); // if it waits for cookies; otherwise it is settled
    if (!item.c) return this.#settle(item, item.reject, reason);
    if (!item.request) return;
    // It stays in its place until the host has counted it, and nobody waits for it.
    item.request = false;
    item.reject(reason);
    const nothing = () => {};
    this.#add(`"x":${item.c}`, false, nothing, nothing);
  }

  /** Follows the life of the tab. */
  #watch() {
    const { signal } = this.#life;
    const wake = () => this.#state.status === "waiting" ? this.#connect() : this.#state.status === "open" && this.#probe();
    // "offline" may be wrong, or another network than this one: it is asked, not believed.
    for (const name of ["online", "offline"]) addEventListener(name, wake, { signal });
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake(), { signal });
    document.addEventListener("resume", wake, { signal });
    addEventListener("pagehide", (e) => {
      if (!e.persisted) return void (this.#options.beacon !== false && this.close());
      // The tab may come back as it is: nothing is lost, and no socket stays open meanwhile.
      this.#drop();
      this.#timer("retry");
      this.#set({ status: "paused" });
    }, { signal });
    addEventListener("pageshow", (e) => e.persisted && this.#state.status === "paused" && this.#connect(), { signal });
  }

  /** Tells the host that the page is closed. */
  #bye() {
    if (!this.#page || !this.#epoch) return;
    const text = JSON.stringify({ t: "bye", page: this.#page, client: this.#client });
    const body = new Blob([text], { type: "application/json" });
    if (!globalThis.navigator?.sendBeacon?.(this.#url.href, body)) {
      fetch(this.#url, { method: "POST", body, keepalive: true, credentials: "include" }).catch(() => {});
    }
  }
}

/** 22 characters from a cryptographic source. */
function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(22)), (b) => "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[b & 63]).join("");
}
