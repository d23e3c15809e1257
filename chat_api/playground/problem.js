// @ts-check

/** A problem document (RFC 9457) that the server answered with, over HTTP or in an `error` frame. */
export class ServerProblem extends Error {
  /** @param {{ title: string, status: number, detail?: string, code: string, errors?: any[] }} problem */
  constructor(problem) {
    super(problem.errors?.map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`).join(" · ") ?? problem.detail ?? problem.title);
    this.name = "ServerProblem";
    this.status = problem.status;
    this.code = problem.code;
    this.problem = problem;
  }

  /** Whether the same request may succeed a little later. */
  get isTemporary() {
    return this.status === 429 || this.status >= 500;
  }

  /** Whether it fails until somebody signs in again, or is let in. */
  get isRefusal() {
    return this.status === 401 || this.status === 403;
  }
}
