/** IP addresses as numbers: what ranges are counted and compared by. Pure. */
import { isIPv4, isIPv6 } from 'node:net';

export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** Undefined where the text is no address. A zone (`fe80::1%eth0`) is none. */
export function parseIp(text: string): IpAddress | undefined {
  if (isIPv4(text)) return { family: 4, value: groupsToNumber(text.split('.'), 10, 8n) };
  if (!isIPv6(text) || text.includes('%')) return undefined;
  // The last 32 bits may be written as IPv4 (RFC 4291, 2.2).
  const dotted = /^(.*:)([0-9]+\.[0-9.]+)$/.exec(text);
  const low = dotted ? groupsToNumber(dotted[2]!.split('.'), 10, 8n) : 0n;
  const hex = dotted ? `${dotted[1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}` : text;
  const [head = '', tail] = hex.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const between = Array<string>(8 - front.length - back.length).fill('0');
  return { family: 6, value: groupsToNumber([...front, ...between, ...back], 16, 16n) };
}

/** The one text of an address: dotted, or as RFC 5952 wants it. */
export function formatIp({ family, value }: IpAddress): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map(shift => String((value >> shift) & 0xffn)).join('.');
  const groups = Array.from({ length: 8 }, (_, at) => Number((value >> BigInt(112 - at * 16)) & 0xffffn));
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let end = at;
    while (end < 8 && groups[end] === 0) end++;
    if (end - at > best.length) best = { at, length: end - at };
  }
  const text = (part: readonly number[]): string => part.map(each => each.toString(16)).join(':');
  if (best.at < 0) return text(groups);
  return `${text(groups.slice(0, best.at))}::${text(groups.slice(best.at + best.length))}`;
}

/** First and last address of a prefix such as 192.0.2.0/24; undefined where the text is none. */
export function parseCidr(text: string): { readonly first: IpAddress; readonly last: IpAddress } | undefined {
  const [address = '', length = '', ...rest] = text.split('/');
  const ip = parseIp(address);
  const width = ip?.family === 4 ? 32 : 128;
  if (!ip || rest.length || !/^\d{1,3}$/.test(length) || Number(length) > width) return undefined;
  const host = (1n << BigInt(width - Number(length))) - 1n;
  const first = ip.value & ~host;
  return { first: { family: ip.family, value: first }, last: { family: ip.family, value: first | host } };
}

function groupsToNumber(groups: readonly string[], radix: 10 | 16, bits: bigint): bigint {
  let value = 0n;
  for (const group of groups) value = (value << bits) | BigInt(Number.parseInt(group, radix));
  return value;
}
