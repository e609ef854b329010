/**
 * What carries frames between a page and its server: a WebSocket, or server-sent events and POST.
 * Before it: guado.js, which makes one for each connection. Not here: what frames mean.
 * @module guado/carriers
 */

/**
 * @typedef {object} Events  what a carrier tells
 * @property {() => void} open
 * @property {(text: string) => void} frame
 * @property {(code: number, reason: string) => void} lost
 *
 * @typedef {object} Carrier
 * @property {(text: string) => void} send
 * @property {() => void} close
 */

/** @param {URL} url @param {Events} on @returns {Carrier} */
export function overWebSocket(url, on) {
  const address = new URL(url);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.onopen = () => on.open();
  socket.onmessage = (e) => on.frame(e.data);
  socket.onclose = (e) => on.lost(e.code, e.reason);
  socket.onerror = () => on.lost(1006, ""); // not every runtime closes after it
  return {
    send: (text) => socket.send(text),
    close() {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close();
    },
  };
}

/** @param {URL} url @param {string} hello @param {string} page @param {Events} on @returns {Carrier} */
export function overSSE(url, hello, page, on) {
  const abort = new AbortController();
  let lines = /** @type {string[]} */ ([]);
  let busy = false;
  let id = 0;
  /** @param {string} body @param {string} accept */
  const post = (body, accept) =>
    fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", accept },
      body,
      cache: "no-store", credentials: "include", // the server may have an origin of its own
      signal: abort.signal,
    });
  const lost = (code = 0, reason = "") => {
    if (!abort.signal.aborted) on.lost(code, reason);
  };
  const listen = async () => {
    const answer = await post(hello, "text/event-stream");
    if (!answer.ok || !answer.body) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = /** @type {string} */ (events.pop());
      for (const event of events) {
        if (abort.signal.aborted) return;
        if (!event.startsWith("data: ")) continue;
        const text = event.slice(6);
        id ||= JSON.parse(text).id;
        on.frame(text);
      }
    }
  };
  const flush = async () => {
    busy = true;
    await null; // what is sent in one turn of the loop leaves together
    while (lines.length) {
      let n = 1;
      for (let size = lines[0].length; n < lines.length && (size += lines[n].length) < 65536; ) n++;
      const body = [JSON.stringify({ t: "on", page, id }), ...lines.splice(0, n)].join("\n");
      const answer = await post(body, "application/json");
      if (!answer.ok) {
        const why = await answer.json();
        return lost(why.code, why.reason);
      }
    }
    busy = false;
  };
  listen().then(() => lost(), () => lost());
  return {
    send(text) {
      lines.push(text);
      if (!busy) flush().catch(() => lost());
    },
    close: () => abort.abort(),
  };
}
