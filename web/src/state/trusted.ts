// The one policy of trusted types. The content security policy allows only `safelight`, and creates it once.

interface Policy {
  createScriptURL(url: string): string;
}

interface TrustedTypes {
  createPolicy(name: string, rules: Policy): Policy;
}

const types = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
const rules: Policy = {
  createScriptURL(url) {
    if (new URL(url, location.href).origin !== location.origin) {
      throw new TypeError(`a script of another origin: ${url}`);
    }
    return url;
  },
};
// Browsers without trusted types take the text itself.
const policy = types?.createPolicy("safelight", rules) ?? rules;

/** Starts a worker: `startWorker(url)` with `import url from "./x.worker?worker&url"`. */
export function startWorker(url: string): Worker {
  return new Worker(policy.createScriptURL(url), { type: "module" });
}
