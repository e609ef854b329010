// What is shared with a page: values, their changes, and what the page writes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import { PushError, Typed, connect } from "../guado.js";
import { decode, encode } from "../values.js";
import { Socket, asBrowser, greeting, url } from "./browser.js";

let browser;
let page;

beforeEach(() => {
  browser = asBrowser();
  page = connect({ page: "p", url });
});

afterEach(() => {
  page.close();
  browser.restore();
});

async function opened(more) {
  const socket = await Socket.next();
  socket.open();
  socket.sent.shift();
  socket.host(greeting(more));
  return socket;
}

const cart = { path: ["cart"], value: { items: [1], net: { x: 1 } } };

describe("values", () => {
  it("reads what Python writes, and writes it back as it was", () => {
    const vectors = JSON.parse(readFileSync(new URL("../../protocol/vectors/store.json", import.meta.url), "utf8"));
    let seen = 0;
    for (const { json } of vectors.values) {
      const found = JSON.parse(json);
      // Arrays and sets of JavaScript are of one kind, and JSON.stringify knows no -0.
      if (/tuple|frozenset|^-0.0$/.test(json)) continue;
      assert.deepEqual(JSON.parse(JSON.stringify(encode(decode(found)))), found, json);
      seen++;
    }
    assert.ok(seen > 20, `${seen} values`);
  });

  it("gives types of JavaScript where there are any", () => {
    assert.equal(decode({ $int: "-0x20000000000001" }), -9007199254740993n);
    assert.ok(Number.isNaN(decode({ $float: "nan" })));
    assert.deepEqual(decode({ $dict: [[1, { $tuple: [2] }]] }), new Map([[1, [2]]]));
    assert.deepEqual(decode({ $set: [1] }), new Set([1]));
    assert.deepEqual(decode({ $bytes: "AP8=" }), Uint8Array.of(0, 255));
    const price = decode({ $decimal: "1.10" });
    assert.ok(price instanceof Typed && price.type === "decimal" && `${price}` === "1.10");
    assert.deepEqual(encode({ at: new Date(0), $a: undefined }), { $dict: [["at", { $datetime: "1970-01-01T00:00:00.000Z" }], ["$a", null]] });
    assert.equal(Object.getPrototypeOf(decode(JSON.parse('{"__proto__":{"x":1}}'))), Object.prototype);
  });
});

describe("what is shared", () => {
  it("is there as it changes, and listeners hear of their paths", async () => {
    const heard = [];
    page.onChange("cart.net", (c) => heard.push(c));
    const end = page.onChange("other", () => assert.fail("it is another one's"), { store: "user" });
    const socket = await opened();
    socket.host({ n: 1, h: [cart, { path: ["other"], value: 1 }] });
    assert.deepEqual(page.get("cart"), cart.value);
    const before = page.get("cart");
    socket.host({ n: 2, v: [{ path: ["cart", "net", "x"], value: { $decimal: "2.50" }, reason: "why", attributes: { a: 1 } }] });
    socket.host({ n: 3, v: [{ path: ["cart", "items"], items: [2, 3] }, { path: ["cart", "items"], at: 0, removed: 1, items: [] }] });
    socket.host({ n: 4, v: [{ path: ["cart"], delete: true }] });
    assert.deepEqual(before, cart.value, "what was given away changes");
    assert.deepEqual(heard, [
      { path: ["cart", "net"], value: { x: 1 }, deleted: false },
      { path: ["cart", "net", "x"], value: new Typed("decimal", "2.50"), deleted: false, reason: "why", attributes: { a: 1 } },
      { path: ["cart", "net"], value: undefined, deleted: true },
    ]);
    assert.equal(page.get("cart"), undefined);
    end();
    socket.host({ n: 5, v: [{ store: "user", path: ["other"], value: 2 }] });
    assert.equal(page.get(["other"], { store: "user" }), 2);
    assert.equal(page.get("other"), 1);
    socket.host({ n: 6, h: [] });
    assert.equal(page.get("other"), undefined);
  });

  it("is what the server says behind a session that could not be resumed", async () => {
    let socket = await opened();
    socket.host({ n: 1, h: [cart] });
    socket.end(1006);
    browser.fire(browser.window, "online");
    socket = await opened({ id: 2, at: 7, resumed: false, why: "tail" });
    socket.host({ n: 8, v: [{ path: ["cart", "items"], items: [2] }] });
    assert.deepEqual(page.get("cart.items"), [1], "a change of what is not here was applied");
    socket.host({ n: 9, h: [{ path: ["cart"], value: { items: [1, 2] } }] });
    socket.host({ n: 10, v: [{ path: ["cart", "items"], items: [3] }] });
    assert.deepEqual(page.get("cart.items"), [1, 2, 3]);
  });

  it("is written by the page, which hears of what others write alone", async () => {
    const heard = [];
    page.onChange("cart", (c) => heard.push(c));
    const socket = await opened();
    socket.host({ n: 1, h: [cart] });
    heard.length = 0;
    let done = false;
    await assert.rejects(page.set("cart.net", undefined), TypeError);
    const writing = page.write([{ path: "cart.net", value: { y: 2n ** 60n } }, { path: ["cart", "items"], delete: true }]).then(() => (done = true));
    const sent = JSON.parse(socket.sent.at(-1));
    assert.deepEqual(sent, { a: 1, c: 1, w: [{ path: ["cart", "net"], value: { y: { $int: "0x1000000000000000" } } }, { path: ["cart", "items"], delete: true }] });
    assert.deepEqual(page.get("cart"), cart.value, "it is not written yet");
    // Somebody else's comes before, and must not be above it in the end.
    socket.host({ n: 2, v: [{ path: ["cart", "net"], value: 0 }] });
    socket.host({ n: 3, v: [{ path: ["cart", "net"], value: { y: { $int: "0x1000000000000000" } }, own: 1 }, { path: ["cart", "items"], delete: true, own: 1 }] });
    socket.host({ n: 4, v: [{ path: ["cart", "z"], value: 1 }] });
    assert.deepEqual(page.get("cart"), { net: { y: 2n ** 60n }, z: 1 });
    assert.deepEqual(heard.map((c) => c.path.join(".")), ["cart.net", "cart.z"]);
    socket.host({ n: 5, r: 1, d: null });
    await writing;
    assert.ok(done);
  });

  it("is there, and heard of, when the instance before this one wrote it", async () => {
    const heard = [];
    const socket = await opened();
    socket.host({ n: 1, h: [cart] });
    page.onChange("cart", (c) => heard.push(c.path.join(".")));
    const asked = page.request({ like: "a message" });
    const written = page.set("cart.mine", 1);
    // Its messages had the same numbers, and wrote something else.
    socket.host({ n: 2, v: [{ path: ["cart", "net"], value: 1, own: 1 }] });
    socket.host({ n: 3, v: [{ path: ["cart", "items"], value: 2, own: 2 }] });
    socket.host({ n: 4, v: [{ path: ["cart", "z"], value: 3, own: 3 }] });
    assert.deepEqual(page.get("cart"), { items: 2, net: 1, z: 3 });
    assert.deepEqual(heard, ["cart.net", "cart.items", "cart.z"]);
    socket.host({ n: 5, v: [{ path: ["cart", "mine"], value: 1, own: 2 }] });
    socket.host({ n: 6, r: 2, d: null });
    socket.host({ n: 7, r: 1, d: 4 });
    assert.equal(await asked, 4);
    await written;
    assert.equal(page.get("cart.mine"), 1);
    assert.equal(heard.length, 3);
  });

  it("is not written where the server refuses", async () => {
    const socket = await opened();
    socket.host({ n: 1, h: [cart] });
    const writing = page.set("cart.net", 5, { store: "user" });
    assert.deepEqual(JSON.parse(socket.sent.at(-1)).w, [{ path: ["cart", "net"], store: "user", value: 5 }]);
    socket.host({ n: 2, r: 1, e: { code: "not_shared", message: "no" } });
    await assert.rejects(writing, (e) => e instanceof PushError && e.code === "not_shared");
    const deleting = page.delete("cart.net");
    assert.deepEqual(JSON.parse(socket.sent.at(-1)).w, [{ path: ["cart", "net"], delete: true }]);
    socket.host({ n: 3, r: 2, d: null });
    await deleting;
  });
});
