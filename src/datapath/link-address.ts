/** IP addresses of network devices, by RTM_*ADDR (linux/if_addr.h). */

import { addressBytes, addressText } from '../api/ip-address.ts';
import { failedWith, type Netlink } from './netlink.ts';
import { familyOf, splitPrefix } from './netlink-address.ts';
import { attribute, decodeAttributes, NLM_F_CREATE, NLM_F_REPLACE, u32 } from './netlink-message.ts';

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 0x02;

/** Where an address is valid (linux/rtnetlink.h). */
export type Scope = 'universe' | 'site' | 'link' | 'host' | 'nowhere';
const scopes: Readonly<Record<Scope, number>> = {
  universe: 0,
  site: 200,
  link: 253,
  host: 254,
  nowhere: 255,
};
export const scopeNumber = (scope: Scope): number => scopes[scope];
export const scopeName = (number: number): Scope =>
  (Object.keys(scopes) as Scope[]).find(each => scopes[each] === number) ?? 'universe';

export interface LinkAddress {
  readonly ifindex: number;
  /** The address alone, '10.1.0.1'. */
  readonly address: string;
  readonly prefixLength: number;
  readonly scope: Scope;
}

/** Addresses of all devices, or of one. */
export function listAddresses(netlink: Netlink, ifindex = 0): LinkAddress[] {
  return netlink
    .dump(`list addresses of link ${ifindex || 'any'}`, RTM_GETADDR, header(0, 0, 0, ifindex))
    .map(decodeAddress);
}

/** Gives a device an address, e.g. '10.1.0.1/32'; nothing happens if it has it. IPv6 skips duplicate detection. */
export function addAddress(
  netlink: Netlink,
  ifindex: number,
  prefix: string,
  scope: Scope = 'universe',
): void {
  const { address, length } = splitPrefix(prefix);
  const bytes = addressBytes(address);
  netlink.request(
    `add address ${prefix} to link ${ifindex}`,
    RTM_NEWADDR,
    NLM_F_CREATE | NLM_F_REPLACE,
    Buffer.concat([
      header(familyOf(address), length, scopes[scope], ifindex),
      attribute(IFA_LOCAL, bytes),
      attribute(IFA_ADDRESS, bytes),
      ...(bytes.length === 16 ? [u32(IFA_FLAGS, IFA_F_NODAD)] : []),
    ]),
  );
}

/** Takes an address away. False if the device did not have it or is gone. */
export function deleteAddress(netlink: Netlink, ifindex: number, prefix: string): boolean {
  const { address, length } = splitPrefix(prefix);
  try {
    netlink.request(
      `delete address ${prefix} of link ${ifindex}`,
      RTM_DELADDR,
      0,
      Buffer.concat([
        header(familyOf(address), length, 0, ifindex),
        attribute(IFA_LOCAL, addressBytes(address)),
      ]),
    );
    return true;
  } catch (error) {
    if (failedWith(error, 'EADDRNOTAVAIL', 'ENODEV')) return false;
    throw error;
  }
}

/** A RTM_NEWADDR or RTM_DELADDR message's body as a row. */
export function decodeAddress(body: Buffer): LinkAddress {
  const attributes = decodeAttributes(body.subarray(8));
  // IFA_LOCAL is the device's own address; on a point-to-point link IFA_ADDRESS is the other end's.
  const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  return {
    ifindex: body.readUInt32LE(4),
    address: bytes ? addressText(bytes) : '',
    prefixLength: body[1]!,
    scope: scopeName(body[3]!),
  };
}

/** struct ifaddrmsg. */
function header(family: number, prefixLength: number, scope: number, ifindex: number): Buffer {
  const out = Buffer.alloc(8);
  out[0] = family;
  out[1] = prefixLength;
  out[3] = scope;
  out.writeUInt32LE(ifindex, 4);
  return out;
}
