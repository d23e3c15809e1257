// @ts-check
/** One person's half of the page: signing in, the connection, the conversation. */

import { Api } from "./api.js";
import { Composer } from "./composer.js";
import { Connection, State } from "./connection.js";
import { Conversation } from "./conversation.js";
import { element } from "./elements.js";
import { FrameLog } from "./frames.js";
import { MessageList } from "./messages.js";
import { somebodyNew } from "./people.js";
import { randomId } from "./random.js";

const STATE_WORDS = {
  [State.OFFLINE]: "Disconnected",
  [State.CONNECTING]: "Connecting…",
  [State.ONLINE]: "Connected",
  [State.WAITING]: "Connection lost",
  [State.REFUSED]: "Refused",
};

export class Pane {
  user = null;
  api;
  /** Called when the person has signed in. */
  onSignedIn = () => {};
  #find;
  #section;
  #connection;
  #conversation = null;
  #sessionId = null;
  #list;
  /** Sent and not acknowledged. */
  #waiting = [];
  /** The person looks at this half: what comes is read. */
  #isActive = false;
  #isDrawing = false;
  #signingIn = null;

  /** @param {string} letter @param {HTMLTemplateElement} template @param {URL} apiRoot */
  constructor(letter, template, apiRoot) {
    const fragment = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    this.#section = /** @type {HTMLElement} */ (fragment.querySelector("section"));
    this.#find = (selector) => /** @type {any} */ (this.#section.querySelector(selector));
    this.#section.classList.add(`person-${letter.toLowerCase()}`);
    this.#section.setAttribute("aria-label", `Person ${letter}`);
    this.#find(".name").textContent = `Person ${letter}`;
    this.api = new Api(apiRoot);
    this.#connection = new Connection({ url: this.api.socketUrl, getTicket: () => this.api.ticket() });
    this.#connection.onState = (change) => this.#showState(change);
    const log = new FrameLog(this.#find(".frames"));
    this.#connection.onFrame = (direction, frame) => log.add(direction, frame);
    this.#list = new MessageList(this.#find(".messages"), {
      react: (message, emoji, on) => this.#try(() => this.api.setReaction(message, emoji, on)),
      edit: (message, content) => this.#try(() => this.api.editMessage(message, content)),
      remove: (message) => this.#try(() => this.api.deleteMessage(message)),
      attachment: (id) => this.api.attachment(id),
      decide: (execution, verdict, reason) => this.#try(() => this.api.decide(execution, verdict, reason)),
    });
    new Composer(this.#find(".composer"), {
      send: (message) => this.#send(message),
      typing: (active) => this.#connection.typing(this.#sessionId, active),
      upload: (file) => this.#try(() => this.api.upload(file)),
    });
    this.#listen();
  }

  get element() {
    return this.#section;
  }

  /** Sign in whoever the form names, if nobody has. Rejects with what the server said. */
  signIn() {
    this.#signingIn ??= this.#signIn().finally(() => (this.#signingIn = null));
    return this.#signingIn;
  }

  /** Follow a session, and show it. */
  enter(sessionId) {
    if (this.#sessionId) this.#connection.unfollow(this.#sessionId);
    this.#sessionId = sessionId;
    this.#waiting = [];
    const conversation = new Conversation(this.user.id, () => this.#draw());
    this.#conversation = conversation;
    this.#find(".recovery").textContent = "";
    this.#find(".room").hidden = false;
    this.#connection.follow(sessionId, {
      load: () => this.api.readSession(sessionId),
      onLoaded: (loaded) => conversation.load(loaded),
      onEvent: (frame) => conversation.apply(frame),
      onSubscribed: (frame) => {
        this.#showRecovery(frame);
        conversation.subscribed(frame);
      },
      onEnded: (reason) => this.#left(reason),
    });
    this.#connection.open();
    this.#draw();
  }

  async #signIn() {
    if (this.user) return;
    const { email, username, password } = this.#find(".sign-in").elements;
    const form = { email: email.value, username: username.value, password: password.value };
    this.user = await this.api.signIn(form);
    this.#find(".name").textContent = this.user.username;
    this.#section.setAttribute("aria-label", this.user.username);
    this.#find(".sign-in").hidden = true;
    this.#connection.open();
    this.onSignedIn();
  }

  #listen() {
    const somebody = somebodyNew();
    const form = this.#find(".sign-in");
    for (const [name, value] of Object.entries(somebody)) form.elements[name].value = value;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#try(() => this.signIn());
    });
    this.#find(".connect").addEventListener("click", () => {
      if (this.#connection.state === State.OFFLINE) this.#connection.open();
      else this.#connection.close();
    });
    this.#find(".stop").addEventListener("click", () => this.#connection.cancelRun(this.#conversation.activeRun.id));
    document.addEventListener("focusin", ({ target }) => this.#activate(target));
    document.addEventListener("pointerdown", ({ target }) => this.#activate(target));
  }

  #activate(target) {
    this.#isActive = this.#section.contains(target);
    if (this.#isActive) this.#markRead();
  }

  async #send(message) {
    const waiting = { client_id: randomId(), ...message };
    this.#waiting.push(waiting);
    this.#list.showEnd();
    this.#draw();
    try {
      await this.#connection.send(this.#sessionId, waiting);
      this.#waiting = this.#waiting.filter((one) => one !== waiting);
    } catch (error) {
      waiting.problem = error.message;
    }
    this.#draw();
  }

  #markRead() {
    if (this.#conversation?.unread.length) this.#connection.read(this.#sessionId, this.#conversation.lastSeq);
  }

  #left(reason) {
    this.#find(".recovery").textContent = `You no longer take part in this session (${reason}).`;
    this.#conversation.disconnected();
  }

  #showState({ state, retryInMs, error }) {
    const seconds = retryInMs === undefined ? "" : `, trying again in ${(retryInMs / 1000).toFixed(1)} s`;
    this.#find(".state").textContent = STATE_WORDS[state] + seconds;
    this.#find(".state").dataset.state = state;
    this.#find(".connect").hidden = false;
    this.#find(".connect").textContent = state === State.OFFLINE ? "Reconnect" : "Disconnect";
    this.#find(".problem").textContent = error?.message ?? "";
    if (state !== State.ONLINE) this.#conversation?.disconnected();
  }

  #showRecovery({ recovered, last_event_seq: last }) {
    const after = this.#connection.position(this.#sessionId);
    const what = recovered ? `${last - after} events replayed` : "read anew over REST";
    this.#find(".recovery").textContent =
      after === null ? "" : `recovered: ${recovered} · ${what} after event ${after}`;
  }

  /** Once for each picture that the browser draws, however many events came. */
  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#drawNow(this.#conversation);
    });
  }

  #drawNow(conversation) {
    this.#list.draw(conversation, this.user.id, this.#waiting);
    this.#find(".people").replaceChildren(
      ...[...conversation.participants.values()].map(({ user_id: userId, username }) => {
        const isOnline = conversation.online.has(userId);
        const state = element("span", { class: "unseen" }, isOnline ? "online" : "offline");
        const name = userId === this.user.id ? `${username} (you)` : username;
        return element("li", { class: isOnline ? "online" : "offline" }, name, " ", state);
      }),
    );
    const { typing, unread } = conversation;
    const verb = typing.length > 1 ? "are" : "is";
    this.#find(".typing").textContent = typing.length ? `${typing.join(", ")} ${verb} typing…` : "";
    this.#find(".stop").hidden = conversation.activeRun === null || this.#connection.state !== State.ONLINE;
    this.#find(".unread").hidden = unread.length === 0;
    this.#find(".unread").textContent = `${unread.length} unread`;
    if (this.#isActive) this.#markRead();
  }

  /** Do it, or say why not. */
  async #try(action) {
    this.#find(".problem").textContent = "";
    try {
      return await action();
    } catch (error) {
      this.#find(".problem").textContent = error.message;
      return null;
    }
  }
}
