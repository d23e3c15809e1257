// @ts-check
/** The calls of tools that a reply made, each with what became of it, and the buttons to decide on it. */

import { element } from "./elements.js";

const WORDS = {
  pending_approval: "waits for approval",
  approved: "approved",
  rejected: "rejected",
  running: "running…",
  succeeded: "done",
  failed: "failed",
  timed_out: "took too long",
};
const SHOWN_CHARACTERS = 600;

/** @typedef {(execution: any, verdict: "approve" | "reject", reason?: string) => Promise<any>} Decide */

export class Calls {
  element = element("ul", { class: "calls", "aria-label": "Tools" });
  #decide;
  /** By id, so that a reason that somebody is writing stays while other calls change. */
  #rows = new Map();

  /** @param {Decide} decide */
  constructor(decide) {
    this.#decide = decide;
  }

  /** @param {any[]} executions In the order in which the calls were made. */
  draw(executions) {
    for (const execution of executions) {
      let row = this.#rows.get(execution.id);
      if (!row) {
        row = new Call(this.#decide);
        this.#rows.set(execution.id, row);
        this.element.append(row.element);
      }
      row.draw(execution);
    }
    this.element.hidden = executions.length === 0;
  }
}

class Call {
  #execution = null;
  #decide;
  #name = element("b");
  #state = element("span", { class: "note" });
  #arguments = element("code");
  #result = element("p", { class: "result" });
  #buttons;
  #reason = element("input", { placeholder: "Reason, for a rejection", maxlength: "2000", "aria-label": "Reason" });

  constructor(decide) {
    this.#decide = decide;
    this.#buttons = element(
      "div",
      { class: "row" },
      element("button", { type: "button", class: "primary", onclick: () => this.#say("approve") }, "Approve"),
      element("button", { type: "button", onclick: () => this.#say("reject") }, "Reject"),
      this.#reason,
    );
    const head = element("div", { class: "byline" }, this.#name, this.#state);
    this.element = element("li", { class: "call" }, head, this.#arguments, this.#result, this.#buttons);
  }

  draw(execution) {
    if (execution === this.#execution) return;
    this.#execution = execution;
    const { tool_name: name, status, arguments: given, result, error, reason } = execution;
    this.element.dataset.status = status;
    this.#name.textContent = name;
    this.#state.textContent = WORDS[status] ?? status;
    this.#arguments.textContent = cut(JSON.stringify(given));
    this.#result.textContent = cut(result ?? error?.detail ?? (status === "rejected" ? reason : null) ?? "");
    this.#buttons.hidden = status !== "pending_approval";
  }

  async #say(verdict) {
    // Disabled until the server has answered: a second click would only be told that it is decided.
    const buttons = this.#buttons.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    await this.#decide(this.#execution, verdict, this.#reason.value.trim());
    for (const button of buttons) button.disabled = false;
  }
}

/** @param {string} text */
const cut = (text) => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text);
