// @ts-check
/**
 * The reference client of the WebSocket API: one socket, any number of sessions, nothing lost and nothing doubled.
 *
 *     const connection = new Connection({ url: "wss://chat.example/api/v1/ws", getTicket });
 *     connection.onState = ({ state }) => show(state);
 *     connection.follow(sessionId, { load, onLoaded, onEvent });
 *     connection.open();
 *     const message = await connection.send(sessionId, { content: "Hello" });
 *
 * What a client has to take care of, and where it stands here:
 *
 * - Every attempt takes a new ticket, because a ticket opens one socket (`#connect`).
 * - Each session is subscribed again on each socket, from the last event that was handed on. What comes twice is
 *   dropped, what is missing is asked for, and what cannot be replayed is loaded over REST (`following.js`).
 * - A message waits under its `client_id` until it is acknowledged, and is sent again over the next socket. The
 *   server stores it once, however often it comes (`send`).
 * - Attempts are spread out: exponential back-off with full jitter, so that a thousand clients of a server that
 *   restarted do not come back at the same moment (`#lost`).
 * - A socket whose network has gone says nothing. Silence is answered by `ping`, silence after it by a new socket.
 *
 * It knows no page, so it can be used as it is.
 */

import { Following } from "./following.js";
import { ServerProblem } from "./problem.js";
import { randomId } from "./random.js";

/** The server's reasons for closing a socket that a client treats differently from a broken connection. */
export const CloseCode = Object.freeze({ FORBIDDEN: 4403, RATE_LIMITED: 4429 });

export const State = Object.freeze({
  /** Closed by `close()`, or never opened. */
  OFFLINE: "offline",
  CONNECTING: "connecting",
  ONLINE: "online",
  /** Lost; the next attempt is due in `retryInMs`. */
  WAITING: "waiting",
  /** The server does not let us in, and trying again would not help. `error` says why. */
  REFUSED: "refused",
});

const MAX_FRAME_BYTES = 64 * 1024;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
const RATE_LIMITED_MS = 2_000;
/** A connection that lasted so long was a good one: the next attempt after it comes soon. */
const STEADY_MS = 5_000;
const LISTEN_MS = 15_000;

export class Connection {
  /** @type {(change: { state: string, retryInMs?: number, error?: Error }) => void} */
  onState = () => {};
  /** Every frame, for whoever wants to look. @type {(direction: "sent" | "received", frame: any) => void} */
  onFrame = () => {};
  /** Who we are, once the server said `ready`. */
  user = null;

  #url;
  #getTicket;
  #WebSocket;
  #state = State.OFFLINE;
  #socket = null;
  /** @type {Map<string, Following>} */
  #followed = new Map();
  /** Messages without an acknowledgement, by client id, in the order of sending. */
  #pending = new Map();
  #failures = 0;
  #since = 0;
  #retryTimer = 0;
  #listenTimer = 0;
  #heard = true;
  #pinged = false;

  /**
   * @param {object} options
   * @param {string} options.url `ws://…/api/v1/ws`
   * @param {() => Promise<string>} options.getTicket Calls `POST /auth/ws-ticket`. A `ServerProblem` that is a refusal
   *   ends the attempts; after any other error there is another.
   * @param {typeof WebSocket} [options.WebSocket] Another one, for tests.
   */
  constructor({ url, getTicket, WebSocket = globalThis.WebSocket }) {
    this.#url = url;
    this.#getTicket = getTicket;
    this.#WebSocket = WebSocket;
    globalThis.addEventListener?.("online", () => {
      if (this.#state === State.WAITING) this.#connect();
    });
  }

  get state() {
    return this.#state;
  }

  /** Connect, and stay connected until `close`. */
  open() {
    if (this.#state === State.CONNECTING || this.#state === State.ONLINE) return;
    this.#failures = 0;
    this.#connect();
  }

  /** Go offline. Positions and unacknowledged messages are kept for the next `open`. */
  close() {
    this.#abandon();
    this.#enter(State.OFFLINE);
  }

  /**
   * Follow a session, from now on or from an event on.
   * @param {string} sessionId
   * @param {import("./following.js").SessionHandlers & { afterSeq?: number }} handlers
   */
  follow(sessionId, { afterSeq, ...handlers }) {
    const following = new Following(sessionId, handlers, afterSeq ?? null, this);
    this.#followed.set(sessionId, following);
    if (this.#state === State.ONLINE) following.subscribe();
  }

  unfollow(sessionId) {
    if (this.#followed.delete(sessionId)) this.push({ type: "unsubscribe", session_id: sessionId });
  }

  /** `event_seq` of the last event of a session that was handed on, or null. */
  position(sessionId) {
    return this.#followed.get(sessionId)?.position ?? null;
  }

  /**
   * Say something. Resolves with the stored message, after however many sockets that takes; rejects with a
   * `ServerProblem` when the server refuses it.
   * @param {{ content: string, attachment_ids?: string[], client_id?: string }} message
   */
  send(sessionId, { client_id = randomId(), ...message }) {
    const frame = { type: "message.send", session_id: sessionId, client_id, ...message };
    if (new TextEncoder().encode(JSON.stringify(frame)).length > MAX_FRAME_BYTES) {
      // The server would close the socket, and we would send it again over the next one, for ever.
      return Promise.reject(new RangeError("This is too long for a frame. Send it over REST."));
    }
    return new Promise((resolve, reject) => {
      this.#pending.set(client_id, { frame, resolve, reject });
      this.push(frame);
    });
  }

  /** Tell the others that one writes. Not kept for the next socket: it is worth nothing later. */
  typing(sessionId, active) {
    this.push({ type: "typing", session_id: sessionId, active });
  }

  /** Mark a session as read up to the message `seq`; also after a reconnect, if we are offline now. */
  read(sessionId, seq) {
    const following = this.#followed.get(sessionId);
    if (!following || seq <= following.readSeq) return;
    following.readSeq = seq;
    this.push({ type: "read", session_id: sessionId, seq });
  }

  cancelRun(runId) {
    this.push({ type: "run.cancel", run_id: runId });
  }

  /** Hand a frame to the socket, if there is one. Whoever needs more than that keeps it, as `send` does. */
  push(frame) {
    if (this.#state !== State.ONLINE) return;
    this.onFrame("sent", frame);
    this.#socket.send(JSON.stringify(frame));
  }

  /** Give the socket up and try again, as if it had been lost. */
  restart(error) {
    if (this.#state === State.ONLINE) this.#lost(0, error);
  }

  async #connect() {
    const attempt = this.#abandon();
    this.#enter(State.CONNECTING);
    let ticket;
    try {
      ticket = await this.#getTicket();
    } catch (error) {
      if (attempt !== this.#socket) return;
      if (error instanceof ServerProblem && error.isRefusal) this.#refuse(error);
      else this.#lost(0, error);
      return;
    }
    if (attempt !== this.#socket) return; // closed or begun anew while we waited
    const socket = new this.#WebSocket(`${this.#url}?ticket=${encodeURIComponent(ticket)}`);
    this.#socket = socket;
    // A socket that we gave up may still speak: nobody listens.
    socket.onmessage = ({ data }) => socket === this.#socket && this.#received(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.#socket && this.#lost(code);
    this.#listen();
  }

  /** Forget the socket and all timers. Returns a mark: `#socket` is something else as soon as things went on. */
  #abandon() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#listenTimer);
    const socket = this.#socket;
    const mark = { close() {} };
    this.#socket = mark;
    socket?.close(1000);
    return mark;
  }

  #lost(code, error) {
    this.#abandon();
    if (code === CloseCode.FORBIDDEN) return this.#refuse(new Error("The server does not let this page in."));
    if (this.#state === State.ONLINE && Date.now() - this.#since > STEADY_MS) this.#failures = 0;
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures++);
    const retryInMs = Math.random() * ceiling + (code === CloseCode.RATE_LIMITED ? RATE_LIMITED_MS : 0);
    this.#retryTimer = setTimeout(() => this.#connect(), retryInMs);
    this.#enter(State.WAITING, { retryInMs, error });
  }

  #refuse(error) {
    this.#abandon();
    this.#enter(State.REFUSED, { error });
  }

  #enter(state, more = {}) {
    this.#state = state;
    this.onState({ state, ...more });
  }

  /** Counts turns of a timer, not time: browsers stretch it for pages in the background. */
  #listen() {
    this.#heard = true;
    this.#pinged = false;
    this.#listenTimer = setInterval(() => {
      if (!this.#heard && (this.#pinged || this.#state !== State.ONLINE)) {
        this.#lost(0);
        return;
      }
      this.#pinged = !this.#heard;
      this.#heard = false;
      if (this.#pinged) this.push({ type: "ping" });
    }, LISTEN_MS);
  }

  #received(frame) {
    this.#heard = true;
    this.onFrame("received", frame);
    switch (frame.type) {
      case "ready":
        this.#ready(frame);
        break;
      case "subscribed":
        this.#followed.get(frame.session_id)?.subscribed(frame);
        break;
      case "unsubscribed":
        if (frame.reason) this.#ended(frame.session_id, frame.reason);
        break;
      case "ack":
        this.#settle(frame.client_id)?.resolve(frame.message);
        break;
      case "error":
        this.#failed(new ServerProblem(frame.problem), frame.in_reply_to ?? {});
        break;
      case "pong":
        break;
      default: // events; also those of types that are newer than this client
        this.#followed.get(frame.session_id)?.event(frame);
    }
  }

  #ready(frame) {
    this.user = frame.user;
    this.#since = Date.now();
    this.#enter(State.ONLINE);
    for (const following of this.#followed.values()) {
      following.subscribe();
      if (following.readSeq) this.push({ type: "read", session_id: following.sessionId, seq: following.readSeq });
    }
    for (const { frame } of this.#pending.values()) this.push(frame);
  }

  /** @param {ServerProblem} error */
  #failed(error, { type, session_id: sessionId, client_id: clientId }) {
    const again = (retry) => setTimeout(retry, RATE_LIMITED_MS * (0.5 + Math.random()));
    if (type === "message.send" && this.#pending.has(clientId)) {
      if (error.isTemporary) again(() => this.#pending.has(clientId) && this.push(this.#pending.get(clientId).frame));
      else this.#settle(clientId).reject(error);
    } else if (type === "subscribe" && this.#followed.has(sessionId)) {
      if (error.isTemporary) again(() => this.#followed.get(sessionId)?.subscribe());
      else this.#ended(sessionId, error.code);
    }
  }

  #settle(clientId) {
    const pending = this.#pending.get(clientId);
    this.#pending.delete(clientId);
    return pending;
  }

  #ended(sessionId, reason) {
    const following = this.#followed.get(sessionId);
    this.#followed.delete(sessionId);
    following?.handlers.onEnded?.(reason);
  }
}
