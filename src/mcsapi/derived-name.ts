import { createHash } from 'node:crypto';

/** RFC 4648, section 7: base 32 with the extended hexadecimal alphabet. */
const DIGITS = '0123456789abcdefghijklmnopqrstuv';

/**
 * Name of the Service behind a ServiceImport: `derived-` and ten digits of the hash of its name. The same in all
 * clusters, and in Cilium's: by it one cluster finds the backends that another exports.
 */
export function derivedName(namespace: string, name: string): string {
  const hash = createHash('sha256').update(`${namespace}/${name}`).digest();
  const bits = Array.from(hash.subarray(0, 7), byte => byte.toString(2).padStart(8, '0')).join('');
  let digits = '';
  for (let at = 0; at < 50; at += 5) digits += DIGITS[Number.parseInt(bits.slice(at, at + 5), 2)];
  return `derived-${digits}`;
}
