// @ts-check
/** Where a person writes: text, files, and the word to the others that they are writing. */

import { element } from "./elements.js";

/** "Typing" is forgotten after six seconds, so it is said again before. */
const SAY_AGAIN_MS = 3_000;
const IDLE_MS = 4_000;

export class Composer {
  #form;
  #text;
  #file;
  #chips;
  /** Uploaded files that the next message will name. @type {Map<string, string>} */
  #attached = new Map();
  #saidAt = 0;
  #idleTimer = 0;
  #actions;

  /**
   * @param {HTMLFormElement} form
   * @param {{ send: (message: any) => void, typing: (active: boolean) => void, upload: (file: File) => Promise<any> }} actions
   */
  constructor(form, actions) {
    this.#form = form;
    this.#actions = actions;
    this.#text = form.querySelector("textarea");
    this.#file = form.querySelector("input[type=file]");
    this.#chips = form.querySelector(".chips");
    form.addEventListener("submit", (event) => this.#submit(event));
    this.#text.addEventListener("input", () => this.#wrote());
    this.#text.addEventListener("keydown", (event) => {
      // Enter also ends a composition of Chinese or Japanese characters, and is not meant for us then.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
    });
    this.#file.addEventListener("change", () => this.#attach());
    form.querySelector(".mention").addEventListener("click", () => this.#mention());
  }

  #submit(event) {
    event.preventDefault();
    const content = this.#text.value.trim();
    if (!content) return;
    const attachment_ids = [...this.#attached.keys()];
    this.#actions.send(attachment_ids.length ? { content, attachment_ids } : { content });
    this.#text.value = "";
    this.#attached.clear();
    this.#chips.replaceChildren();
    this.#rest();
    this.#text.focus();
  }

  #mention() {
    if (!this.#text.value.includes("@assistant")) this.#text.value = `@assistant ${this.#text.value}`;
    this.#text.focus();
  }

  #wrote() {
    clearTimeout(this.#idleTimer);
    if (!this.#text.value) {
      this.#rest();
      return;
    }
    this.#idleTimer = setTimeout(() => this.#rest(), IDLE_MS);
    if (Date.now() - this.#saidAt > SAY_AGAIN_MS) {
      this.#saidAt = Date.now();
      this.#actions.typing(true);
    }
  }

  #rest() {
    clearTimeout(this.#idleTimer);
    if (this.#saidAt) this.#actions.typing(false);
    this.#saidAt = 0;
  }

  async #attach() {
    const files = [...this.#file.files];
    this.#file.value = ""; // so that the same file can be chosen again
    for (const file of files) {
      const attachment = await this.#actions.upload(file);
      if (attachment) this.#addChip(attachment);
    }
  }

  #addChip({ id, name }) {
    this.#attached.set(id, name);
    const onclick = () => {
      this.#attached.delete(id);
      chip.remove();
      this.#text.focus();
    };
    const chip = element("button", { type: "button", "aria-label": `Take ${name} off`, onclick }, `${name} ×`);
    this.#chips.append(chip);
  }
}
