import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';

const known = new Map<string, { readonly version: string; readonly end: Date }>();

/**
 * When the certificate in a file ends. It is asked for with every status of every remote cluster, so that a file is
 * read again only when it is another one. @throws Error where there is no certificate
 */
export function certificateEnd(path: string): Date {
  const { ino, mtimeMs, size } = statSync(path);
  const version = `${ino} ${mtimeMs} ${size}`;
  const before = known.get(path);
  if (before?.version === version) return before.end;
  const end = new X509Certificate(readFileSync(path)).validToDate;
  known.set(path, { version, end });
  return end;
}

/** Days before the end of our client certificate at which it is said. */
const warnDays = 30;

/**
 * Only the other cluster can sign a new certificate for us, and nobody there may write here: a person with rights in
 * both renews it, by another `connect`. Read for every question, so that a renewed one ends the warning at once.
 * `reader`: name of this cluster.
 */
export function expiryWarnings(file: string, cluster: string, reader: string): string[] {
  let ends: Date;
  try {
    ends = certificateEnd(file);
  } catch {
    return []; // that there is no certificate is an error of the connection, and told as such
  }
  const left = ends.getTime() - Date.now();
  if (left > warnDays * 86_400_000) return [];
  const day = ends.toISOString().slice(0, 10);
  return [
    `the client certificate ${left > 0 ? 'ends' : 'ended'} on ${day}: renew it with isthmus clustermesh connect --context ${reader} --destination-context ${cluster}`,
  ];
}
