/** IP addresses as numbers: what ranges are counted and compared by. Pure. */
import { isIP } from 'node:net';
import { addressBytes, addressText } from '../datapath/netlink-address.ts';

export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** Undefined where the text is no address. A zone (`fe80::1%eth0`) is none. */
export function parseIp(text: string): IpAddress | undefined {
  if (!isIP(text) || text.includes('%')) return undefined;
  const bytes = addressBytes(text);
  return { family: bytes.length === 4 ? 4 : 6, value: BigInt(`0x${bytes.toString('hex')}`) };
}

/** The one text of an address: dotted, or as RFC 5952 wants it. */
export function formatIp({ family, value }: IpAddress): string {
  return addressText(Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex'));
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
