// @ts-check
/**
 * How far a client is in one session, and what has to wait.
 *
 * Durable events are numbered 1, 2, 3 … in each session, without gaps. So the number of the last one is all that a
 * client has to keep: it names it after a lost socket, drops what comes twice, and notices what is missing.
 */

/**
 * @typedef {object} SessionHandlers
 * @property {(frame: any) => Promise<any>} load Read the session over REST: what was missed cannot be replayed.
 * @property {(loaded: any) => void} onLoaded What `load` resolved with: it replaces everything known so far.
 * @property {(frame: any) => void} onEvent An event: each durable one once and in order, ephemeral ones as they come.
 * @property {(frame: any) => void} [onSubscribed] We follow the session; `recovered`, `session`, `presence`.
 * @property {(reason: string) => void} [onEnded] We follow it no more: removed, or the session was deleted.
 */

/** One session that is followed over one socket after the other. Made by `Connection.follow`. */
export class Following {
  /** `event_seq` of the last durable event that was handed on; null: the session has to be loaded. */
  position;
  /** The highest `seq` that was marked as read. */
  readSeq = 0;
  /** Between `subscribe` and `subscribed`. */
  #asking = false;
  /** Events that came while the session is loaded; null when it is not. @type {any[] | null} */
  #held = null;
  #connection;

  /**
   * @param {string} sessionId
   * @param {SessionHandlers} handlers
   * @param {number | null} position
   * @param {{ push: (frame: object) => void, restart: (error: Error) => void }} connection
   */
  constructor(sessionId, handlers, position, connection) {
    this.sessionId = sessionId;
    this.handlers = handlers;
    this.position = position;
    this.#connection = connection;
  }

  /** Ask for everything after our position. On every new socket, and when something is missing. */
  subscribe() {
    this.#asking = true;
    if (this.#held) {
      // A load that had not ended: neither it nor what was held back may count as known.
      this.#held = null;
      this.position = null;
    }
    const after = this.position === null ? {} : { after_seq: this.position };
    this.#connection.push({ type: "subscribe", session_id: this.sessionId, ...after });
  }

  /** The server's answer. `recovered: true`: all that we missed comes next. `false`: load, and go on from there. */
  async subscribed(frame) {
    this.#asking = false;
    this.handlers.onSubscribed?.(frame);
    if (frame.recovered) return;
    this.position = frame.last_event_seq;
    const held = (this.#held = []);
    let loaded;
    try {
      loaded = await this.handlers.load(frame);
    } catch (error) {
      // With a new socket we subscribe again, and so load again: after the connection's back-off.
      if (held === this.#held) this.#connection.restart(error);
      return;
    }
    if (held !== this.#held) return; // subscribed anew meanwhile: this is out of date
    this.#held = null;
    this.handlers.onLoaded(loaded);
    for (const event of held) this.handlers.onEvent(event);
  }

  /** An event of this session. */
  event(frame) {
    if (frame.event_seq !== undefined) {
      // While we ask, everything after our position is about to come anyway.
      if (this.#asking || frame.event_seq <= this.position) return;
      if (frame.event_seq > this.position + 1) {
        this.subscribe();
        return;
      }
      this.position = frame.event_seq;
    }
    if (this.#held) this.#held.push(frame);
    else this.handlers.onEvent(frame);
  }
}
