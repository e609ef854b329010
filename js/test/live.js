// Run by the Go tests against a real host: node live.js JSON. What arrives must be right
// and in order, whatever happens to the connection meanwhile.
import assert from "node:assert/strict";
import { connect } from "../guado.js";

/** @type {{url: string, page: string, transport: any, messages: number, sends: number, requests: number, to?: string, lost: boolean, anew: boolean}} */
const plan = JSON.parse(process.argv[2]);
const page = connect({ page: plan.page, url: plan.url, transport: plan.transport });
const seen = { opened: 0, anew: 0, lost: 0, transports: new Set(), reasons: new Set() };

const messages = new Promise((resolve, reject) => {
  let next = 0;
  page.onMessage((m) => {
    try {
      assert.equal(m, next++, "out of order");
      if (next === plan.messages) resolve();
    } catch (e) {
      reject(e);
    }
  });
  page.onState((s) => {
    if (s.status === "open") {
      seen.opened++;
      seen.transports.add(s.transport);
      if (!s.resumed) seen.anew++;
    }
    if (s.reason) seen.reasons.add(s.reason);
    if (s.status === "ended") reject(new Error(`ended: ${s.code} ${s.reason}`));
  });
  if (!plan.messages) resolve();
});

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function sends() {
  for (let i = 0; i < plan.sends; i++) {
    const sent = page.send(i);
    if (i % 10 === 0) await sent;
    else sent.catch((e) => { throw e; });
  }
}

async function requests() {
  for (let i = 0; i < plan.requests; i++) {
    const data = { i, text: "é".repeat(i % 50) };
    try {
      assert.deepEqual(await page.request(data, { to: plan.to }), data);
    } catch (e) {
      // What the host was answering when it stopped: it says so, never nothing.
      if (!plan.lost || e.code !== "lost") throw e;
      seen.lost++;
    }
    await pause(1);
  }
}

await Promise.all([messages, sends(), requests()]);
assert.equal(seen.anew, 0, "a connection began anew");
console.log(JSON.stringify({ ...seen, transports: [...seen.transports], reasons: [...seen.reasons] }));
page.close();
