/** Checksums of packets that we make ourselves. Addresses have 16 bytes, IPv4 mapped. */

/** What a checksum of a higher layer covers of the IP header (RFC 9293, 3.1; RFC 8200, 8.1). */
export function pseudoHeader(from: Uint8Array, to: Uint8Array, protocol: number, length: number): Buffer {
  const start = isMapped(from) ? 12 : 0;
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(length, 0);
  rest[7] = protocol;
  return Buffer.concat([from.subarray(start), to.subarray(start), rest]);
}

/** RFC 1071. All parts but the last have an even length. */
export function checksum(...parts: readonly Buffer[]): number {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export const isMapped = (addr: Uint8Array): boolean =>
  addr[10] === 0xff && addr[11] === 0xff && addr.subarray(0, 10).every(byte => byte === 0);
