// @ts-check
/** The REST side of the API for one person. Tokens stay in this object's memory: closing the page forgets them. */

import { ServerProblem } from "./problem.js";

/** A token that expires within this time is renewed before it is used. */
const RENEW_BEFORE_MS = 30_000;

export class Api {
  #root;
  #accessToken = null;
  #refreshToken = null;
  #expiresAt = 0;
  /** A refresh token is good once, so requests that want a new one at the same time share it. */
  #renewal = null;

  /** @param {URL | string} root `https://…/api/v1/`, with the slash. */
  constructor(root) {
    this.#root = new URL(root);
  }

  get socketUrl() {
    const url = new URL("ws", this.#root);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  /** Register where the name is free, then sign in. Resolves with the person. */
  async signIn({ email, username, password }) {
    try {
      await this.#request("POST", "auth/register", { json: { email, username, password }, asNobody: true });
    } catch (error) {
      // The name is given: perhaps to this person. The password will tell.
      if (!(error instanceof ServerProblem) || error.status !== 409) throw error;
    }
    const form = new URLSearchParams({ grant_type: "password", username, password });
    this.#keep(await this.#request("POST", "auth/token", { body: form, asNobody: true }));
    return this.#request("GET", "users/me");
  }

  async ticket() {
    return (await this.#request("POST", "auth/ws-ticket")).ticket;
  }

  /** @param {string} title @param {string[]} tools */
  startSession(title, tools) {
    return this.#request("POST", "sessions", { json: { title, settings: { tools } } });
  }

  addParticipant(sessionId, userId) {
    return this.#request("POST", `sessions/${sessionId}/participants`, { json: { user_id: userId } });
  }

  /** What a client shows of a session: itself, its latest messages, and whether the assistant is answering. */
  async readSession(sessionId) {
    const [session, window, status, executions] = await Promise.all([
      this.#request("GET", `sessions/${sessionId}`),
      this.#request("GET", `sessions/${sessionId}/messages?limit=100`),
      this.#request("GET", `sessions/${sessionId}/status`),
      this.#executions(sessionId),
    ]);
    return { session, messages: window.items, activeRun: status.active_run, executions };
  }

  /** All calls of tools: they come the earliest first, and the last may be one that waits for a person. */
  async #executions(sessionId) {
    const executions = [];
    let cursor = null;
    do {
      const after = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
      const page = await this.#request("GET", `sessions/${sessionId}/tool-executions?limit=100${after}`);
      executions.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor);
    return executions;
  }

  editMessage(message, content) {
    return this.#request("PATCH", messagePath(message), { json: { content } });
  }

  deleteMessage(message) {
    return this.#request("DELETE", messagePath(message));
  }

  setReaction(message, emoji, on) {
    return this.#request(on ? "PUT" : "DELETE", `${messagePath(message)}/reactions/${encodeURIComponent(emoji)}`);
  }

  /** Approve or reject a call of a tool that waits. @param {"approve" | "reject"} verdict */
  decide(execution, verdict, reason) {
    const json = verdict === "reject" && reason ? { reason } : {};
    return this.#request("POST", `tool-executions/${execution.id}/${verdict}`, { json });
  }

  upload(file) {
    const body = new FormData();
    body.append("file", file);
    return this.#request("POST", "attachments", { body });
  }

  /** The bytes of an attachment. They need a credential, so an `<img>` cannot fetch them by itself. */
  async attachment(attachmentId) {
    return (await this.#answer("GET", `attachments/${attachmentId}`)).blob();
  }

  async #request(method, path, options) {
    const answer = await this.#answer(method, path, options);
    return answer.status === 204 ? null : answer.json();
  }

  /** @param {{ json?: object, body?: BodyInit, asNobody?: boolean }} [options] */
  async #answer(method, path, { json, body, asNobody = false } = {}) {
    const headers = new Headers();
    if (!asNobody) headers.set("Authorization", `Bearer ${await this.#token()}`);
    if (json) headers.set("Content-Type", "application/json");
    const answer = await fetch(new URL(path, this.#root), {
      method,
      headers,
      body: json ? JSON.stringify(json) : body,
      credentials: "omit",
    });
    if (!answer.ok) throw await problemOf(answer);
    return answer;
  }

  async #token() {
    if (this.#refreshToken && Date.now() > this.#expiresAt - RENEW_BEFORE_MS) {
      this.#renewal ??= this.#renew().finally(() => (this.#renewal = null));
      await this.#renewal;
    }
    return this.#accessToken;
  }

  async #renew() {
    const json = { refresh_token: this.#refreshToken };
    this.#keep(await this.#request("POST", "auth/refresh", { json, asNobody: true }));
  }

  #keep(tokens) {
    this.#accessToken = tokens.access_token;
    this.#refreshToken = tokens.refresh_token;
    this.#expiresAt = Date.now() + tokens.expires_in * 1000;
  }
}

const messagePath = (message) => `sessions/${message.session_id}/messages/${message.id}`;

async function problemOf(answer) {
  const isProblem = answer.headers.get("Content-Type")?.startsWith("application/problem+json");
  const problem = isProblem ? await answer.json() : { title: answer.statusText, code: `http-${answer.status}` };
  return new ServerProblem({ ...problem, status: answer.status });
}
