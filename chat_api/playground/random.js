// @ts-check

/** 128 random bits. `crypto.randomUUID` is there on secure origins only. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
