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
