// @ts-check
/** The messages of a conversation as a list that is changed in place, so that focus and selection stay. */

import { Attachments } from "./attachments.js";
import { Calls } from "./calls.js";
import { clockTime, element } from "./elements.js";

const EMOJI = ["👍", "❤️", "😄", "🎉"];
const NEAR_END_PX = 80;
const NOTES = { streaming: "writing…", failed: "failed", cancelled: "stopped", awaiting_approval: "waits for approval" };

/**
 * @typedef {object} MessageActions
 * @property {(message: any, emoji: string, on: boolean) => void} react
 * @property {(message: any, content: string) => Promise<any>} edit Resolves with nothing if it was refused.
 * @property {(message: any) => void} remove
 * @property {(attachmentId: string) => Promise<Blob>} attachment
 * @property {import("./calls.js").Decide} decide
 */

export class MessageList {
  #box;
  #list = element("ol");
  #rows = new Map();
  #divider = element("li", { class: "divider" }, "New");
  #actions;
  #goToEnd = false;

  /** @param {HTMLElement} box It scrolls. @param {MessageActions} actions */
  constructor(box, actions) {
    this.#box = box;
    this.#actions = actions;
    box.append(this.#list);
  }

  /**
   * @param {import("./conversation.js").Conversation} conversation
   * @param {string} me
   * @param {{ client_id: string, content: string, problem?: string }[]} waiting Not acknowledged, or refused.
   */
  draw(conversation, me, waiting) {
    const { scrollHeight, scrollTop, clientHeight } = this.#box;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    const { messages } = conversation;
    const readers = readersOf(conversation, me);
    const firstUnread = conversation.unread[0];
    const wanted = [];
    for (const message of messages) {
      if (message === firstUnread) wanted.push(this.#divider);
      const row = this.#rows.get(message.id) ?? this.#add(message, me);
      row.draw(message, readers.get(message.id) ?? []);
      wanted.push(row.element);
    }
    const arrived = new Set(messages.map((message) => message.client_id));
    for (const { client_id: clientId, content, problem } of waiting) {
      const note = element("span", { class: "note" }, problem ? ` · not sent: ${problem}` : " · sending…");
      if (!arrived.has(clientId)) wanted.push(element("li", { class: "message mine waiting" }, content, note));
    }
    this.#arrange(wanted);
    const known = new Set(messages.map((message) => message.id));
    for (const id of this.#rows.keys()) if (!known.has(id)) this.#rows.delete(id);
    if (isAtEnd || this.#goToEnd) this.#box.scrollTop = this.#box.scrollHeight;
    this.#goToEnd = false;
  }

  /** Show the end after the next change, wherever one has scrolled to. */
  showEnd() {
    this.#goToEnd = true;
  }

  #add(message, me) {
    const row = new MessageRow(message, me, this.#actions);
    this.#rows.set(message.id, row);
    return row;
  }

  #arrange(wanted) {
    let at = this.#list.firstChild;
    for (const child of wanted) {
      if (child === at) at = at.nextSibling;
      else this.#list.insertBefore(child, at);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }
}

/** Who else has read up to which message: names by the id of the last message that they have read. */
function readersOf({ messages, participants }, me) {
  const readers = new Map();
  for (const { user_id: userId, username, last_read_seq: seq } of participants.values()) {
    const last = userId === me ? undefined : messages.findLast((message) => message.seq <= seq);
    if (last) readers.set(last.id, [...(readers.get(last.id) ?? []), username]);
  }
  return readers;
}

class MessageRow {
  #message = null;
  #me;
  #actions;
  #note = element("span", { class: "note" });
  #text = element("p", { class: "text" });
  #citations = element("ul", { class: "citations" });
  #attachments;
  #calls;
  #toolbar = element("div", { class: "toolbar", role: "group", "aria-label": "Actions" });
  #reactions = new Map();
  #readers = element("p", { class: "readers" });
  #editor = null;

  constructor(message, me, actions) {
    this.#me = me;
    this.#actions = actions;
    this.#attachments = new Attachments(actions.attachment);
    this.#calls = new Calls(actions.decide);
    const isMine = message.sender?.id === me;
    const author = message.sender?.username ?? message.role;
    this.element = element(
      "li",
      { class: `message ${message.role}${isMine ? " mine" : ""}` },
      element("div", { class: "byline" }, element("b", {}, author), clockTime(message.created_at), this.#note),
      this.#text,
      this.#calls.element,
      this.#attachments.element,
      this.#citations,
      this.#toolbar,
      this.#readers,
    );
    if (message.role === "system") return;
    for (const emoji of EMOJI) this.#addReaction(emoji);
    if (isMine) {
      this.#toolbar.append(
        element("button", { type: "button", class: "own", onclick: () => this.#edit() }, "Edit"),
        element("button", { type: "button", class: "own", onclick: () => actions.remove(this.#message) }, "Delete"),
      );
    }
  }

  draw(message, readers) {
    this.#readers.textContent = readers.length ? `Read by ${readers.join(", ")}` : "";
    if (message === this.#message) return;
    this.#message = message;
    const isDeleted = message.deleted_at !== null;
    this.element.dataset.seq = message.seq;
    this.element.classList.toggle("deleted", isDeleted);
    this.element.classList.toggle("streaming", message.status === "streaming");
    // A screen reader waits for the whole reply instead of reading every piece.
    this.element.setAttribute("aria-busy", String(message.status === "streaming"));
    this.#text.textContent = isDeleted ? "This message was deleted." : message.content;
    this.#note.textContent = NOTES[message.status] ?? (message.edited_at && !isDeleted ? "edited" : "");
    if (message.error) this.#note.textContent = `failed: ${message.error.title}`;
    this.#attachments.draw(message.attachments);
    this.#calls.draw(message.calls ?? []);
    this.#citations.replaceChildren(
      ...message.citations.map(({ index, document_name: name, snippet }) =>
        element("li", { title: snippet }, `[${index}] ${name}`),
      ),
    );
    this.#drawReactions(isDeleted);
    if (isDeleted) this.#endEdit();
  }

  #drawReactions(isDeleted) {
    this.#toolbar.hidden = isDeleted || this.#message.status === "streaming";
    for (const emoji of Object.keys(this.#message.reactions)) if (!this.#reactions.has(emoji)) this.#addReaction(emoji);
    for (const [emoji, button] of this.#reactions) {
      const people = this.#message.reactions[emoji] ?? [];
      button.textContent = people.length ? `${emoji} ${people.length}` : emoji;
      button.setAttribute("aria-pressed", String(people.includes(this.#me)));
    }
  }

  #addReaction(emoji) {
    const onclick = () => {
      const isOn = this.#message.reactions[emoji]?.includes(this.#me) ?? false;
      this.#actions.react(this.#message, emoji, !isOn);
    };
    const button = element("button", { type: "button", class: "reaction", title: `React with ${emoji}`, onclick });
    this.#reactions.set(emoji, button);
    this.#toolbar.insertBefore(button, this.#toolbar.querySelector(".own"));
  }

  #edit() {
    if (this.#editor) return;
    const input = element("textarea", { "aria-label": "New text", rows: "2", maxlength: "100000" });
    input.value = this.#message.content;
    this.#editor = element(
      "form",
      {
        class: "editor",
        onsubmit: async (event) => {
          event.preventDefault();
          if (await this.#actions.edit(this.#message, input.value.trim())) this.#endEdit();
        },
        onkeydown: (event) => event.key === "Escape" && this.#endEdit(),
      },
      input,
      element("button", { class: "primary" }, "Save"),
      element("button", { type: "button", onclick: () => this.#endEdit() }, "Cancel"),
    );
    this.#text.hidden = true;
    this.#text.after(this.#editor);
    input.focus();
  }

  #endEdit() {
    if (!this.#editor) return;
    this.#editor.remove();
    this.#editor = null;
    this.#text.hidden = false;
    this.#toolbar.querySelector(".own")?.focus();
  }
}
