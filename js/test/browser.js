// What the client finds in a browser and not in Node, played by the tests.
import assert from "node:assert/strict";

/** A WebSocket whose other end is the test. */
export class Socket extends EventTarget {
  /** @type {Socket[]} */
  static made = [];
  /** @type {((socket: Socket) => void)[]} */
  static awaited = [];

  constructor(url) {
    super();
    this.url = String(url);
    this.sent = [];
    const waiting = Socket.awaited.shift();
    if (waiting) waiting(this);
    else Socket.made.push(this);
  }

  static next() {
    const made = Socket.made.shift();
    return made ? Promise.resolve(made) : new Promise((resolve) => Socket.awaited.push(resolve));
  }

  static reset() {
    Socket.made = [];
    Socket.awaited = [];
  }

  send(text) {
    assert.ok(!this.closed, "send after the end");
    this.sent.push(text);
  }

  close() {
    this.closed = true;
  }

  open() {
    this.onopen?.({});
  }

  host(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  end(code, reason = "") {
    this.closed = true;
    this.onclose?.({ code, reason });
  }
}

/** Makes globalThis a window with a document, until the function returned is called. */
export function asBrowser() {
  const window = new EventTarget();
  const page = new EventTarget();
  Object.assign(page, { visibilityState: "visible" });
  const beacons = [];
  const before = { addEventListener: globalThis.addEventListener, document: globalThis.document, WebSocket: globalThis.WebSocket };
  const navigator = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  globalThis.addEventListener = window.addEventListener.bind(window);
  globalThis.document = page;
  globalThis.WebSocket = Socket;
  Object.defineProperty(globalThis, "navigator", {
    configurable: true,
    value: { sendBeacon: (url, body) => beacons.push({ url, body }) > 0 },
  });
  Socket.reset();
  return {
    window, document: page, beacons,
    fire(target, type, fields = {}) {
      target.dispatchEvent(Object.assign(new Event(type), fields));
    },
    restore() {
      Object.assign(globalThis, before);
      if (navigator) Object.defineProperty(globalThis, "navigator", navigator);
      else delete globalThis.navigator;
    },
  };
}

/** Lets all that is ready happen. */
export const settled = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

export const url = "http://example.test/_guado/push";

export const greeting = (more = {}) => ({
  t: "hello", v: 1, id: 1, epoch: "e1", at: 0, resumed: true, got: 0, beat: 20000, window: 1000, max: 1048576, ...more,
});
