// The client's part of the golden transcripts; internal/push/vectors_test.go plays the host's.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { connect } from "../guado.js";
import { Socket, asBrowser, settled, url } from "./browser.js";

const vectors = JSON.parse(readFileSync(new URL("../../protocol/vectors/push.json", import.meta.url), "utf8"));

class Player {
  states = [];
  messages = [];
  snapshots = [];
  heard = [];
  settled = new Map();
  aborts = new Map();

  constructor() {
    this.page = connect({ page: "page-1", url });
    this.page.onState((s) => s.status === "connecting" || this.states.push(s));
    this.page.onMessage((m) => this.messages.push(m));
    this.page.onSnapshot((s) => this.snapshots.push(s));
    this.page.onChange("form", (c) => this.heard.push(c.path.join(".")));
  }

  follow(promise, name) {
    promise.then(
      (value) => this.settled.set(name, { value }),
      (e) => this.settled.set(name, { error: e.code && typeof e.code === "string" ? e.code : e.name === "AbortError" ? "abort" : String(e) }),
    );
  }

  async play(step) {
    const [what] = Object.keys(step);
    const value = step[what];
    switch (what) {
      case "connect":
        this.socket = await Socket.next();
        this.socket.open();
        break;
      case ">":
      case "vanish": {
        const text = this.socket.sent.shift();
        assert.ok(text, "the client sent nothing");
        const frame = JSON.parse(text);
        // The instance of the client is random; the transcript calls it by another name.
        if (frame.t === "hello") {
          this.client ??= frame.client;
          assert.equal(frame.client, this.client);
          frame.client = "c1";
        }
        assert.deepEqual(frame, value);
        break;
      }
      case "<":
        this.socket.host(value);
        break;
      case "close":
        this.socket.end(value, "");
        break;
      case "cut":
        this.socket.end(1006);
        break;
      case "send":
        this.follow(this.page.send(value), step.as);
        break;
      case "request": {
        const abort = new AbortController();
        this.aborts.set(step.as, abort);
        this.follow(this.page.request(value, { to: step.to, signal: abort.signal }), step.as);
        break;
      }
      case "write":
        this.follow(this.page.write(value), step.as);
        break;
      case "has":
        for (const [path, want] of Object.entries(value)) assert.deepEqual(this.page.get(path), want);
        break;
      case "heard":
        assert.deepEqual(this.heard.splice(0), value);
        break;
      case "abort":
        this.aborts.get(value).abort();
        break;
      case "state": {
        const state = this.states.shift();
        assert.ok(state, "the state did not change");
        for (const [key, want] of Object.entries(value)) {
          if (key === "error") assert.deepEqual({ code: state.error.code, message: state.error.message }, want);
          else assert.equal(state[key], want, key);
        }
        break;
      }
      case "message":
        assert.deepEqual(this.messages.shift(), value);
        break;
      case "shown":
        assert.deepEqual(this.snapshots.shift(), value);
        break;
      case "settled": {
        await settled();
        const { as, ...want } = value;
        const got = this.settled.get(as);
        assert.ok(got, `${as} is not settled`);
        if (want.error) assert.equal(got.error, want.error);
        else assert.deepEqual(got.value, want.value);
        this.settled.delete(as);
        break;
      }
      default: // what only the host does and sees
    }
  }

  done() {
    assert.deepEqual(this.messages, []);
    assert.deepEqual(this.snapshots, []);
    assert.deepEqual(this.heard, []);
    assert.deepEqual(this.states, []);
    if (this.socket && !this.socket.closed) assert.deepEqual(this.socket.sent, []);
    this.page.close();
  }
}

describe("golden transcripts", () => {
  let browser;
  beforeEach(() => {
    browser = asBrowser();
    mock.method(Math, "random", () => 0);
  });
  afterEach(() => {
    browser.restore();
    mock.restoreAll();
  });
  for (const { name, steps } of vectors.transcripts) {
    it(name, async () => {
      const player = new Player();
      let n = 0;
      for (const step of steps) {
        n++;
        try {
          await player.play(step);
        } catch (e) {
          e.message = `step ${n} ${JSON.stringify(step)}: ${e.message}`;
          throw e;
        }
      }
      player.done();
    });
  }
});

describe("close codes", () => {
  let browser;
  beforeEach(() => (browser = asBrowser()));
  afterEach(() => browser.restore());
  for (const { code, name, return: comesBack } of vectors.codes) {
    it(`${code} ${name}: ${comesBack ? "comes back" : "does not come back"}`, async () => {
      const page = connect({ page: "p", url });
      const socket = await Socket.next();
      socket.open();
      socket.end(code, name);
      assert.equal(page.state.status, comesBack ? "waiting" : "ended");
      assert.equal(page.state.code, code);
      page.close();
    });
  }
});
