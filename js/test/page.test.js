// The client in its tab: when it comes back, what it keeps, how it ends.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { PushError, connect, open as openPage } from "../guado.js";
import { Socket, asBrowser, greeting, url } from "./browser.js";

let browser;
const pages = [];
const flush = async () => {
  for (let i = 0; i < 10; i++) await null;
};

beforeEach(() => {
  browser = asBrowser();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e12 });
  mock.method(Math, "random", () => 0.5);
});

afterEach(() => {
  for (const page of pages.splice(0)) page.close();
  browser.restore();
  mock.timers.reset();
  mock.restoreAll();
});

function tab(options = {}) {
  const page = connect({ page: "p", url, ...options });
  pages.push(page);
  return page;
}

async function open(page, more) {
  const socket = await Socket.next();
  socket.open();
  socket.hello = JSON.parse(socket.sent.shift());
  socket.host(greeting(more));
  return socket;
}

const code = (want) => (e) => e instanceof PushError && e.code === want;

describe("coming back", () => {
  it("waits a random part of the window, which doubles with each try in vain", async () => {
    const page = tab({ transport: "websocket" });
    const socket = await open(page, { window: 4000 });
    socket.end(1006);
    for (const delay of [2000, 4000, 8000, 15000, 15000]) {
      assert.equal(page.state.status, "waiting");
      assert.equal(page.state.delay, delay);
      mock.timers.tick(delay - 1);
      await flush();
      assert.equal(Socket.made.length, 0, "it came back early");
      mock.timers.tick(1);
      (await Socket.next()).end(1006);
    }
  });

  it("goes by a window that was announced later", async () => {
    const page = tab();
    const socket = await open(page);
    socket.host({ t: "window", ms: 20000 });
    socket.end(3000, "restart");
    assert.deepEqual(page.state, { status: "waiting", delay: 10000, code: 3000, reason: "restart" });
  });

  it("comes at once when the browser is online again", async () => {
    const page = tab();
    (await open(page)).end(1006);
    browser.fire(browser.window, "online");
    const socket = await open(page, { id: 2 });
    assert.deepEqual([socket.hello.epoch, socket.hello.at], ["e1", 0]);
    assert.equal(page.state.status, "open");
  });

  it("comes at once when the tab becomes visible, and not when it is hidden", async () => {
    const page = tab();
    (await open(page)).end(1006);
    browser.document.visibilityState = "hidden";
    browser.fire(browser.document, "visibilitychange");
    await flush();
    assert.equal(page.state.status, "waiting");
    browser.document.visibilityState = "visible";
    browser.fire(browser.document, "visibilitychange");
    await open(page);
    assert.equal(page.state.status, "open");
  });

  it("asks a connection that may be dead, and leaves it when it says nothing", async () => {
    const page = tab();
    const socket = await open(page);
    browser.fire(browser.document, "visibilitychange");
    assert.equal(socket.sent.shift(), '{"p":1}');
    socket.host({ p: 1 });
    mock.timers.tick(6000);
    assert.equal(page.state.status, "open");
    browser.fire(browser.window, "online");
    mock.timers.tick(5000);
    assert.equal(page.state.status, "waiting");
    assert.ok(socket.closed);
  });

  it("asks when the browser says that it is offline, and when nothing comes while a message waits", async () => {
    const page = tab();
    const socket = await open(page);
    browser.fire(browser.window, "offline");
    assert.equal(socket.sent.pop(), '{"p":1}');
    socket.host({ p: 1 });
    mock.timers.tick(4999);
    page.send("to somebody who was there just now");
    socket.sent.length = 0;
    mock.timers.tick(1);
    assert.equal(socket.sent.pop(), '{"p":1}');
    socket.host({ p: 1 });
    mock.timers.tick(3000);
    page.send("and who says something");
    socket.host({});
    mock.timers.tick(4999);
    assert.ok(!socket.sent.includes('{"p":1}'));
    mock.timers.tick(1);
    assert.ok(socket.sent.includes('{"p":1}'));
    mock.timers.tick(5000);
    assert.deepEqual([page.state.status, page.state.reason], ["waiting", "no answer"]);
  });

  it("sends what waited before what a listener sends that hears of it", async () => {
    const page = tab();
    const first = await open(page);
    page.send("left and perhaps lost");
    first.end(1006);
    page.send("waited");
    page.onState((s) => s.status === "open" && page.send("I am here"));
    browser.fire(browser.window, "online");
    const socket = await open(page, { id: 2 });
    assert.deepEqual(socket.sent.map((text) => { const { c, m } = JSON.parse(text); return [c, m]; }),
      [[1, "left and perhaps lost"], [2, "waited"], [3, "I am here"]]);
  });

  it("gives WebSockets another turn where they had passed, when it was the host that was away", async () => {
    const page = tab();
    let streams = 0;
    mock.method(globalThis, "fetch", async (to, init) => {
      if (init.headers?.accept !== "text/event-stream") return new Response("{}");
      streams++;
      const text = `data: ${JSON.stringify(greeting({ id: 9 }))}\n\n`;
      return new Response(new ReadableStream({ start: (c) => c.enqueue(new TextEncoder().encode(text)) }));
    });
    const away = async () => {
      for (let i = 0; i < 2; i++) {
        browser.fire(browser.window, "online");
        (await Socket.next()).end(1006);
      }
      browser.fire(browser.window, "online");
    };
    (await open(page)).end(1006);
    await away();
    const socket = await open(page, { id: 10 });
    assert.deepEqual([streams, socket.hello.epoch, page.state.transport], [1, "e1", "websocket"]);
    socket.end(1006);
    await away();
    (await Socket.next()).end(1006); // the turn again, in vain: now they do not pass
    browser.fire(browser.window, "online");
    (await Socket.next()).end(1006);
    const opened = new Promise((resolve) => page.onState((s) => s.status === "open" && resolve(s.transport)));
    browser.fire(browser.window, "online");
    assert.equal(await opened, "sse");
    assert.equal(streams, 3);
  });

  it("leaves a connection that is silent for two beats", async () => {
    const page = tab();
    const socket = await open(page, { beat: 1000 });
    for (let i = 0; i < 10; i++) {
      mock.timers.tick(1000);
      socket.host({});
      assert.equal(socket.sent.pop(), '{"a":0}');
    }
    for (let i = 0; i < 4 && page.state.status === "open"; i++) mock.timers.tick(1000);
    assert.equal(page.state.status, "waiting");
    assert.equal(page.state.reason, "silent");
  });

  it("leaves a connection whose hello does not come", async () => {
    const page = tab();
    const socket = await Socket.next();
    mock.timers.tick(10000);
    assert.equal(page.state.status, "waiting");
    assert.ok(socket.closed);
  });

  it("connects again when a number is missing, and shows nothing of what is behind it", async () => {
    const page = tab();
    const seen = [];
    page.onMessage((m) => seen.push(m));
    const socket = await open(page);
    socket.host({ n: 1, m: "one" });
    socket.host({ n: 3, m: "three" });
    socket.host({ n: 4, m: "four" });
    assert.deepEqual(seen, ["one"]);
    browser.fire(browser.window, "online");
    assert.equal((await open(page, { at: 1 })).hello.at, 1);
  });

  it("asks again what became of its requests when the host was killed and knows", async () => {
    const page = tab();
    const socket = await open(page);
    const asked = page.request("pay");
    assert.deepEqual(JSON.parse(socket.sent.at(-1)).q, "pay");
    socket.end(1006);
    browser.fire(browser.window, "online");
    const next = await open(page, { id: 2, epoch: "e2", resumed: false, why: "epoch", kept: true, got: 1 });
    const again = next.sent.map((text) => JSON.parse(text)).find((f) => f.c === 1);
    assert.deepEqual(again && again.q, "pay");
    next.host({ n: 1, r: 1, d: "paid" });
    assert.equal(await asked, "paid");
  });

  it("asks for another page when its own has ended, if it can", async () => {
    let n = 0;
    const page = tab({ page: () => `p${++n}` });
    const socket = await open(page);
    const sent = page.send("old");
    socket.end(3506, "evicted");
    await assert.rejects(sent, code("lost"));
    browser.fire(browser.window, "online");
    const second = await open(page, { epoch: "e2" });
    assert.equal(second.hello.page, "p2");
    assert.equal(second.hello.epoch, undefined);
    assert.notEqual(second.hello.client, socket.hello.client);
    page.send("new");
    assert.deepEqual(JSON.parse(second.sent[0]), { a: 0, c: 1, m: "new" });
  });

  it("tries again when no page can be had", async () => {
    const pages = [Promise.reject(new Error("offline")), "p"];
    const page = tab({ page: () => pages.shift() });
    await flush();
    assert.equal(page.state.status, "waiting");
    mock.timers.tick(500);
    await open(page);
    assert.equal(page.state.status, "open");
  });
});

describe("a page that the client opens", () => {
  let asked, answers;

  beforeEach(() => {
    asked = [];
    answers = [];
    globalThis.location = new URL("http://example.test/rooms/7?x=1");
    mock.method(globalThis, "fetch", async (to, init) => {
      asked.push({ to: String(to), method: init.method, body: JSON.parse(init.body) });
      const [status, body] = await answers.shift();
      return new Response(JSON.stringify(body), { status });
    });
  });

  afterEach(() => {
    delete globalThis.location;
  });

  function board(options) {
    const page = openPage("Board", { room: 7 }, { url, ...options });
    pages.push(page);
    return page;
  }

  it("is asked for with its class, and speaks at once", async () => {
    answers.push([200, { page: "p1" }]);
    const page = board();
    page.send("before there is a page");
    const socket = await open(page);
    assert.deepEqual(asked, [{
      to: "http://example.test/_guado/page", method: "POST", body: { path: "/rooms/7", class: "Board", args: { room: 7 } },
    }]);
    assert.equal(socket.hello.page, "p1");
    assert.equal(page.id, "p1");
    assert.equal(page.state.resumed, true);
    assert.deepEqual(JSON.parse(socket.sent[0]), { a: 0, c: 1, m: "before there is a page" });
  });

  it("is the document's own as long as there is that one, and says when another takes its place", async () => {
    for (const gone of [3502, 3503, 3506, 3507]) {
      const page = board({ page: "html" });
      const socket = await open(page);
      assert.equal(socket.hello.page, "html");
      assert.equal(asked.length, 0);
      socket.end(1006);
      browser.fire(browser.window, "online");
      const again = await open(page, { id: 2 });
      assert.equal(again.hello.page, "html");
      answers.push([200, { page: "other" }]);
      again.end(gone, "over");
      assert.equal(page.state.code, gone);
      browser.fire(browser.window, "online");
      const other = await open(page, { epoch: "e2" });
      assert.equal(other.hello.page, "other");
      assert.notEqual(other.hello.client, socket.hello.client);
      assert.deepEqual([page.state.resumed, page.state.why], [false, "page"]);
      other.end(1006);
      browser.fire(browser.window, "online");
      await open(page, { id: 2, epoch: "e2" });
      assert.deepEqual([page.state.resumed, page.state.why], [true, undefined]);
      page.close();
      asked.length = 0;
    }
  });

  it("is asked for again while the server cannot say, and not when there will be none", async () => {
    answers.push(Promise.reject(new TypeError("offline")), [503, { code: "queue_full" }], [404, { code: "no_class" }]);
    const page = board();
    for (let i = 1; i <= 2; i++) {
      while (page.state.status === "connecting") await flush();
      assert.deepEqual([page.state.status, asked.length], ["waiting", i]);
      browser.fire(browser.window, "online");
    }
    while (page.state.status === "connecting") await flush();
    const { error, ...state } = page.state;
    assert.deepEqual(state, { status: "ended", code: 404, reason: "no_class" });
    assert.equal(error.code, "no_class");
  });

  it("ends when the user logs in or out: the document is another one then", async () => {
    const page = board({ page: "html" });
    (await open(page)).end(3504, "identity");
    assert.equal(page.state.status, "ended");
  });
});

describe("the tab", () => {
  it("lets its connection go for the back/forward cache and comes back to what it missed", async () => {
    const page = tab();
    const socket = await open(page);
    socket.host({ n: 1, m: 1 });
    browser.fire(browser.window, "pagehide", { persisted: true });
    assert.equal(page.state.status, "paused");
    assert.ok(socket.closed);
    assert.equal(browser.beacons.length, 0);
    mock.timers.tick(100000);
    assert.equal(Socket.made.length, 0, "it came back while it was away");
    browser.fire(browser.window, "pageshow", { persisted: true });
    assert.equal((await open(page, { at: 1 })).hello.at, 1);
  });

  it("tells the server that it is closed", async () => {
    const page = tab();
    const socket = await open(page);
    browser.fire(browser.window, "pagehide", { persisted: false });
    assert.equal(page.state.status, "ended");
    assert.equal(browser.beacons.length, 1);
    assert.equal(browser.beacons[0].url, url);
    assert.deepEqual(JSON.parse(await browser.beacons[0].body.text()), { t: "bye", page: "p", client: socket.hello.client });
  });

  it("says nothing when it is told not to", async () => {
    const page = tab({ beacon: false });
    await open(page);
    browser.fire(browser.window, "pagehide", { persisted: false });
    assert.equal(browser.beacons.length, 0);
  });

  it("has a channel of its own beside those of other tabs", async () => {
    const [a, b] = [tab({ page: "a" }), tab({ page: "b" })];
    const seen = [];
    a.onMessage((m) => seen.push(["a", m]));
    b.onMessage((m) => seen.push(["b", m]));
    const [first, second] = [await open(a), await open(b)];
    assert.deepEqual([first.hello.page, second.hello.page], ["a", "b"]);
    assert.notEqual(first.hello.client, second.hello.client);
    second.host({ n: 1, m: 1 });
    first.host({ n: 1, m: 2 });
    assert.deepEqual(seen, [["b", 1], ["a", 2]]);
  });
});

describe("messages", () => {
  it("wait, in order and bounded, until there is a connection", async () => {
    const page = tab({ queue: 3 });
    const sent = [page.send(1), page.request(2), page.send(3)];
    await assert.rejects(page.send(4), code("full"));
    const socket = await open(page);
    assert.deepEqual(socket.sent.map((t) => JSON.parse(t)), [{ a: 0, c: 1, m: 1 }, { a: 0, c: 2, q: 2 }, { a: 0, c: 3, m: 3 }]);
    socket.host({ n: 1, r: 2, d: "two" });
    socket.host({ g: 3 });
    assert.deepEqual(await Promise.all(sent), [undefined, "two", undefined]);
    page.send(5);
  });

  it("over the limit of the host are refused here", async () => {
    const page = tab();
    await open(page, { max: 100 });
    await assert.rejects(page.send("x".repeat(200)), code("too_big"));
    await assert.rejects(page.send("é".repeat(60)), { code: "too_big", message: "122 bytes of JSON, where the server takes 100" });
    page.send("é".repeat(40));
  });

  it("that wait when the page ends are rejected", async () => {
    const page = tab();
    const sent = page.send(1);
    page.close();
    await assert.rejects(sent, code("ended"));
    await assert.rejects(page.send(2), code("ended"));
  });

  it("that were cancelled before they left do not leave", async () => {
    const page = tab();
    const abort = new AbortController();
    const sent = page.request(1, { signal: abort.signal });
    abort.abort();
    await assert.rejects(sent, { name: "AbortError" });
    await assert.rejects(page.send(1, { signal: abort.signal }), { name: "AbortError" });
    assert.deepEqual((await open(page)).sent, []);
  });

  it("reach all listeners, whatever one of them throws", async () => {
    const page = tab();
    const seen = [];
    globalThis.reportError = (e) => seen.push(e.message);
    const stop = page.onMessage((m) => seen.push(m));
    page.onMessage(() => {
      throw new Error("mine");
    });
    page.onMessage((m) => seen.push(m));
    const socket = await open(page);
    socket.host({ n: 1, m: "a" });
    stop();
    socket.host({ n: 2, m: "b" });
    delete globalThis.reportError;
    assert.deepEqual(seen, ["a", "mine", "a", "mine", "b"]);
    assert.equal(page.state.status, "open");
  });
});

describe("a reply with cookies", () => {
  const asked = [];
  /** Fetches wait until they are answered: with a status, or an error. */
  const answers = [];
  const answer = async (how) => {
    answers.shift()(how);
    await flush();
  };

  beforeEach(() => {
    asked.length = answers.length = 0;
    mock.method(globalThis, "fetch", (to, init) => {
      asked.push([String(to), init.method, init.credentials, JSON.parse(init.body)]);
      return new Promise((resolve, reject) =>
        answers.push((how) => (how instanceof Error ? reject(how) : resolve(new Response(null, { status: how })))));
    });
  });

  const login = async (page) => {
    const socket = await open(page);
    const replies = [];
    page.request("log in").then((d) => replies.push(d), (e) => replies.push(e.code));
    socket.host({ n: 1, r: 1, k: "token", d: "in" });
    await flush();
    return { socket, replies };
  };

  it("is given once they were fetched, at the second try if need be", async () => {
    const { replies } = await login(tab());
    assert.deepEqual(asked, [[url, "POST", "include", { t: "cookies", page: "p", k: "token" }]]);
    await answer(new TypeError("offline"));
    assert.deepEqual(replies, []);
    assert.deepEqual(asked[1], asked[0]);
    await answer(204);
    assert.deepEqual(replies, ["in"]);
  });

  it("is an error when they cannot be had", async () => {
    const { replies } = await login(tab());
    await answer(new TypeError("offline"));
    await answer(404);
    assert.deepEqual(replies, ["cookies"]);
    assert.equal(asked.length, 2);
  });

  it("comes before the end of its page", async () => {
    const page = tab();
    const { socket, replies } = await login(page);
    page.onState((s) => replies.push(s.status));
    socket.end(3504, "identity");
    await flush();
    assert.deepEqual(replies, []);
    await answer(204);
    mock.timers.tick(0);
    assert.deepEqual(replies, ["in", "ended"]);
  });
});

describe("acknowledgements", () => {
  it("wait for a second, so that many frames need one", async () => {
    const socket = await open(tab());
    for (let n = 1; n <= 50; n++) socket.host({ n, m: n });
    mock.timers.tick(999);
    assert.deepEqual(socket.sent, []);
    mock.timers.tick(1);
    assert.deepEqual(socket.sent, ['{"a":50}']);
  });

  it("go at once after many bytes", async () => {
    const socket = await open(tab());
    socket.host({ n: 1, m: "x".repeat(40000) });
    assert.deepEqual(socket.sent, ['{"a":1}']);
  });

  it("do not wait for the timers of a hidden tab", async () => {
    const socket = await open(tab());
    const now = Date.now();
    socket.host({ n: 1, m: 1 });
    mock.method(Date, "now", () => now + 6000); // and no timer has run
    socket.host({ n: 2, m: 2 });
    assert.deepEqual(socket.sent, ['{"a":2}']);
  });

  it("travel with what is sent", async () => {
    const page = tab();
    const socket = await open(page);
    socket.host({ n: 1, m: 1 });
    page.send("x");
    mock.timers.tick(4999);
    assert.deepEqual(socket.sent, ['{"a":1,"c":1,"m":"x"}']);
  });
});
