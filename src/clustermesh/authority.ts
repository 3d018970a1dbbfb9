import { createAuthority, type KeyPair } from './x509.ts';

/** Milliseconds by which what is signed begins earlier: clocks of nodes may be behind. */
export const backdate = 300_000;
const life = 3650 * 86_400_000;

/** A CA for a cluster that nobody gave one, from now on and for ten years. */
export const newAuthority = (cluster: string, now: Date): Promise<KeyPair> =>
  createAuthority(
    `Isthmus CA of ${cluster}`,
    new Date(now.getTime() - backdate),
    new Date(now.getTime() + life),
  );
