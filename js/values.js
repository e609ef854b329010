/**
 * What is shared with a page: values of stores, as their server has them. protocol/store.md says
 * how values are written (section 1), protocol/push.md how their changes come (section 8).
 * Before it: guado.js, which gets the frames. Not here: what a server lets its clients write.
 * @module guado/values
 */

/**
 * @typedef {string | string[]} Path  dotted, or keys
 *
 * @typedef {object} Change  what a listener hears
 * @property {string[]} path
 * @property {any} value  that is there now; undefined: nothing
 * @property {boolean} deleted
 * @property {string} [reason]
 * @property {Record<string, any>} [attributes]
 *
 * @typedef {"page" | "user" | "connection"} Store
 *
 * @typedef {object} Write
 * @property {Path} path
 * @property {any} [value]
 * @property {boolean} [delete]
 * @property {Store} [store]
 */

/** A value of a type that JavaScript does not have: decimal, date, time, datetime. */
export class Typed {
  /** @param {string} type @param {string} text @param {Record<string, any>} [more] */
  constructor(type, text, more = {}) {
    this.type = type;
    this.text = text;
    this.more = more; // zone and fold of a datetime or time
  }

  toString() {
    return this.text;
  }

  toJSON() {
    return { [`$${this.type}`]: this.text, ...this.more };
  }
}

/** @type {Record<string, (inside: any, found: any) => any>} */
const READ = {
  $int: (text) => (text[0] === "-" ? -BigInt(text.slice(1)) : BigInt(text)),
  $float: (text) => ({ nan: NaN, inf: Infinity, "-inf": -Infinity })[/** @type {"nan"} */ (text)],
  $dict: (pairs) => new Map(pairs.map((/** @type {any[]} */ pair) => pair.map(decode))),
  $tuple: (items) => items.map(decode),
  $set: (items) => new Set(items.map(decode)),
  $frozenset: (items) => new Set(items.map(decode)),
  $bytes: (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)),
};

/** Makes values of what JSON.parse gave. @param {any} found @returns {any} */
export function decode(found) {
  if (Array.isArray(found)) return found.map(decode);
  if (found === null || typeof found !== "object") return found;
  const [first] = Object.keys(found);
  if (first?.[0] === "$") {
    const { [first]: inside, ...more } = found;
    return Object.hasOwn(READ, first) ? READ[first](inside, found) : new Typed(first.slice(1), inside, more);
  }
  return Object.fromEntries(Object.entries(found).map(([key, value]) => [key, decode(value)]));
}

/** What JSON.stringify makes a value of a store of. @param {any} value @returns {any} */
export function encode(value) {
  if (typeof value === "bigint") return { $int: (value < 0n ? "-0x" : "0x") + (value < 0n ? -value : value).toString(16) };
  if (typeof value === "number" && !Number.isFinite(value)) {
    return { $float: Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf" };
  }
  if (value === undefined) return null;
  if (value === null || typeof value !== "object" || value instanceof Typed) return value;
  if (Array.isArray(value)) return value.map(encode);
  if (value instanceof Date) return { $datetime: value.toISOString() };
  if (value instanceof Uint8Array) return { $bytes: btoa(Array.from(value, (b) => String.fromCharCode(b)).join("")) };
  if (value instanceof Set) return { $set: [...value].map(encode) };
  const pairs = value instanceof Map ? [...value] : Object.entries(value);
  if (value instanceof Map || pairs.some(([key]) => key[0] === "$")) return { $dict: pairs.map((pair) => pair.map(encode)) };
  return Object.fromEntries(pairs.map(([key, one]) => [key, encode(one)]));
}

/** @param {Path} path */
export const keysOf = (path) => (typeof path === "string" ? path.split(".") : path);

/** @param {any} node @param {string} key */
const below = (node, key) =>
  node instanceof Map ? node.get(key) : isDict(node) && Object.hasOwn(node, key) ? node[key] : undefined;

/** @param {any} node */
const isDict = (node) => node && Object.getPrototypeOf(node) === Object.prototype;

/**
 * A node with another value at a path; what was given away before stays as it was.
 * @param {any} node @param {string[]} keys @param {any} value @returns {any}
 */
function put(node, [key, ...rest], value) {
  const next = rest.length ? put(below(node, key), rest, value) : value;
  if (node instanceof Map) {
    const copy = new Map(node);
    if (next === undefined) copy.delete(key);
    else copy.set(key, next);
    return copy;
  }
  const { [key]: _, ...others } = node ?? {};
  return next === undefined ? others : { ...node, [key]: next };
}

/** @param {string[]} path @param {string[]} keys */
const under = (path, keys) => path.length <= keys.length && path.every((key, i) => key === keys[i]);

export class Values {
  /** @type {Record<string, any>} */ #trees = {};
  /** @type {{store: string, path: string[]}[]} */ #shared = [];
  /** @type {Set<{store: string, path: string[], listener: (change: Change) => void}>} */ #listeners = new Set();
  #stale = false; // until all comes, changes are of something else

  /** @param {Path} path @param {Store} [store] @returns {any} */
  get(path, store = "page") {
    return keysOf(path).reduce(below, this.#trees[store]);
  }

  /** @param {Path} path @param {(change: Change) => void} listener @param {Store} [store] */
  on(path, listener, store = "page") {
    const entry = { store, path: keysOf(path), listener };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /** The next frame brings all. */
  anew() {
    this.#stale = true;
  }

  /** Takes all that is shared. @param {any[]} list */
  all(list) {
    const before = this.#shared;
    this.#stale = false;
    this.#trees = {};
    this.#shared = list.map(({ store = "page", path }) => ({ store, path }));
    for (const one of list) this.#put(one);
    const gone = before.filter((b) => !this.#shared.some((s) => s.store === b.store && under(s.path, b.path) && under(b.path, s.path)));
    for (const one of [...list, ...gone]) this.#tell(one);
  }

  /** Takes changes. @param {any[]} list @param {(message: number) => any[]} wrote  what this client did */
  changes(list, wrote) {
    if (this.#stale) return;
    for (const one of list) this.#put(one);
    for (const one of list) {
      // Another instance of the client may have had a message of that number.
      const own = one.own && wrote(one.own).some((mine) => mine.store === one.store && under(one.path, keysOf(mine.path)));
      if (!own) this.#tell(one);
    }
  }

  /** @param {any} change */
  #put({ store = "page", path, value, items, at, removed }) {
    let next = value === undefined ? undefined : decode(value);
    if (items) {
      const list = this.get(path, store) ?? [];
      next = [...list];
      next.splice(at ?? list.length, removed ?? 0, ...decode(items));
    }
    this.#trees[store] = put(this.#trees[store], path, next);
  }

  /** @param {any} change */
  #tell({ store = "page", path, reason, attributes }) {
    for (const one of this.#listeners) {
      if (one.store !== store || !(under(one.path, path) || under(path, one.path))) continue;
      const at = path.length > one.path.length ? path : one.path;
      const value = this.get(at, store);
      try {
        one.listener({
          path: at, value, deleted: value === undefined,
          ...(reason !== undefined && { reason }), ...(attributes && { attributes: decode(attributes) }),
        });
      } catch (e) {
        (globalThis.reportError || console.error)(e);
      }
    }
  }
}
