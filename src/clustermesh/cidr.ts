import { isIP } from 'node:net';

/** A prefix as Go's net.IPNet is written to JSON: the mask as base64 of 4 or 16 bytes. */
export interface GoCidr {
  readonly IP: string;
  readonly Mask: string;
}

/** Bits of a base64 mask, or undefined when it is no mask for an address of that family. */
export function maskLength(mask: string, family: 4 | 6): number | undefined {
  const bytes = Buffer.from(mask, 'base64');
  if (bytes.length !== (family === 4 ? 4 : 16)) return undefined;
  let length = 0;
  let ended = false;
  for (const byte of bytes)
    for (let bit = 7; bit >= 0; bit--) {
      const set = (byte >> bit) & 1;
      if (set && ended) return undefined;
      if (set) length++;
      else ended = true;
    }
  return length;
}

/** `10.2.0.0/24` of Go's form, or of the plain text newer writers may use. Undefined when it is neither. */
export function cidrText(value: GoCidr | string): string | undefined {
  if (typeof value === 'string') return isCidr(value) ? value : undefined;
  const family = isIP(value.IP);
  if (family !== 4 && family !== 6) return undefined;
  const length = maskLength(value.Mask, family);
  return length === undefined ? undefined : `${value.IP}/${length}`;
}

/** Go's form of `10.2.0.0/24`. */
export function goCidr(text: string): GoCidr {
  const slash = text.indexOf('/');
  const address = text.slice(0, slash);
  return { IP: address, Mask: goMask(Number(text.slice(slash + 1)), isIP(address) === 6 ? 6 : 4) };
}

function goMask(length: number, family: 4 | 6): string {
  const bytes = Buffer.alloc(family === 4 ? 4 : 16);
  for (let bit = 0; bit < length; bit++) bytes[bit >> 3]! |= 0x80 >> (bit & 7);
  return bytes.toString('base64');
}

function isCidr(text: string): boolean {
  const [address = '', length = '', ...rest] = text.split('/');
  const family = isIP(address);
  return (
    family !== 0 &&
    rest.length === 0 &&
    /^\d{1,3}$/.test(length) &&
    Number(length) <= (family === 4 ? 32 : 128)
  );
}
