// @ts-check
/**
 * What one person sees of a session, built from its events. It knows neither the network nor the page.
 *
 * Messages are never changed in place: a new object means that there is something to draw.
 */

/** Somebody who does not say again that they write has stopped, or their connection has. */
const TYPING_MS = 6_000;
const ENDED = new Set(["run.completed", "run.failed", "run.cancelled"]);

export class Conversation {
  session = null;
  /** The run that is answered now, or null. */
  activeRun = null;
  /** @type {Map<string, { user_id: string, username: string, role: string, last_read_seq: number }>} */
  participants = new Map();
  /** Ids of the people who are there. @type {Set<string>} */
  online = new Set();
  #messages = new Map();
  /** Who writes, and the timer that ends it. */
  #typing = new Map();
  #me;
  #changed;

  /** @param {string} me @param {() => void} changed Called after every change. */
  constructor(me, changed) {
    this.#me = me;
    this.#changed = changed;
  }

  /** In the order of the conversation. */
  get messages() {
    return [...this.#messages.values()].sort((one, other) => one.seq - other.seq);
  }

  get unread() {
    const mine = this.participants.get(this.#me)?.last_read_seq ?? 0;
    return this.messages.filter(
      (message) => message.seq > mine && message.sender?.id !== this.#me && !message.deleted_at,
    );
  }

  get lastSeq() {
    return this.messages.at(-1)?.seq ?? 0;
  }

  /** Usernames of the others who write now. */
  get typing() {
    return [...this.#typing.values()].map(({ username }) => username);
  }

  /** Replace everything by what REST gave. */
  load({ session, messages, activeRun, executions = [] }) {
    this.#messages = new Map(messages.map((message) => [message.id, message]));
    for (const execution of executions) this.#called(execution);
    this.activeRun = activeRun;
    this.#know(session);
    this.#changed();
  }

  /** The answer to `subscribe`. */
  subscribed({ session, presence }) {
    this.#know(session);
    this.online = new Set(presence.map((person) => person.id));
    this.#changed();
  }

  /** Nothing is known of the others without a connection. */
  disconnected() {
    this.online.clear();
    for (const { timer } of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
    this.#changed();
  }

  apply({ type, data }) {
    switch (type) {
      case "message.created":
      case "message.updated":
        this.#messages.set(data.id, { ...data, calls: this.#messages.get(data.id)?.calls });
        this.#stopTyping(data.sender?.id);
        break;
      case "message.deleted":
        if (data.deleted_at) this.#change(data.id, { content: "", attachments: [], deleted_at: data.deleted_at });
        else this.#messages.delete(data.id);
        break;
      case "message.delta":
        this.#change(data.message_id, (message) => ({ content: grown(message.content, data) }));
        break;
      case "message.citations":
        this.#change(data.message_id, { citations: data.citations });
        break;
      case "reaction.updated":
        this.#change(data.message_id, { reactions: data.reactions });
        break;
      case "run.started":
        this.activeRun = data;
        break;
      case "read.updated":
        this.#read(data);
        break;
      case "participant.joined":
        this.participants.set(data.user_id, { last_read_seq: 0, ...data });
        break;
      case "participant.left":
        this.participants.delete(data.user_id);
        this.online.delete(data.user_id);
        this.#stopTyping(data.user_id);
        break;
      case "session.updated":
        this.#updated(data);
        break;
      case "typing":
        this.#stopTyping(data.user_id);
        if (data.active && data.user_id !== this.#me) this.#startTyping(data);
        break;
      case "presence":
        if (data.online) this.online.add(data.user_id);
        else this.online.delete(data.user_id);
        break;
      default:
        if (type.startsWith("tool.")) this.#called(data);
        if (ENDED.has(type) && this.activeRun?.id === data.id) this.activeRun = null;
    }
    this.#changed();
  }

  #know(session) {
    this.session = session;
    this.participants = new Map(session.participants.map((participant) => [participant.user_id, participant]));
  }

  #change(messageId, change) {
    const message = this.#messages.get(messageId);
    if (!message) return; // older than what we loaded
    this.#messages.set(messageId, { ...message, ...(typeof change === "function" ? change(message) : change) });
  }

  /** Every event of a call carries it as it is now. */
  #called(execution) {
    this.#change(execution.message_id, ({ calls = [] }) => ({
      calls: [...calls.filter(({ id }) => id !== execution.id), execution].sort(
        (one, other) => one.round - other.round || one.position - other.position,
      ),
    }));
  }

  #read({ user_id: userId, seq }) {
    const participant = this.participants.get(userId);
    if (participant && seq > participant.last_read_seq) {
      this.participants.set(userId, { ...participant, last_read_seq: seq });
    }
  }

  #updated({ changes = {}, cleared_through_seq: cleared = changes.cleared_through_seq }) {
    this.session = { ...this.session, ...changes };
    for (const [id, { seq }] of cleared === undefined ? [] : this.#messages) {
      if (seq <= cleared) this.#messages.delete(id);
    }
  }

  #startTyping({ user_id: userId, username }) {
    const timer = setTimeout(() => {
      this.#typing.delete(userId);
      this.#changed();
    }, TYPING_MS);
    this.#typing.set(userId, { username, timer });
  }

  #stopTyping(userId) {
    clearTimeout(this.#typing.get(userId)?.timer);
    this.#typing.delete(userId);
  }
}

/**
 * A growing text: what was there up to `offset`, then the new piece. The offset counts Unicode code points, while a
 * JavaScript string counts UTF-16 units, in which most emoji are two.
 */
export function grown(text, { offset, text: piece }) {
  const characters = Array.from(text);
  // Something before it has not come: the whole text follows with `message.updated`.
  if (offset > characters.length) return text;
  return characters.slice(0, offset).join("") + piece;
}
